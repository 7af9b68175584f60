package dashboard

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// The time that charts show, and into how many parts it is cut.
const (
	chartSpan = 7 * 24 * time.Hour
	chartBins = 56
)

// seriesOf is where the data of charts comes from.
func seriesOf(environment string) string { return query("/series", "environment", environment) }

// series is the data of the charts: what happened in equal parts of the last days.
type series struct {
	// Times are the ends of the parts, in seconds.
	Times []int64 `json:"times"`
	// Drifts counts those that began, Corrected those that ended.
	Drifts    []int `json:"drifts"`
	Corrected []int `json:"corrected"`
	// Resolve is the median of how long corrections took, in seconds; null where
	// there were none.
	Resolve []*float64 `json:"resolve"`
	// Runs counts those that ended well, Failed the others.
	Runs   []int `json:"runs"`
	Failed []int `json:"failed"`
	// Cut: there was more than is counted here.
	Cut bool `json:"cut"`
}

func (d *Dashboard) series(w http.ResponseWriter, r *http.Request) {
	q := url.Values{"since": {chartSpan.String()}, "buckets": {strconv.Itoa(chartBins)}}
	if environment := r.URL.Query().Get("environment"); environment != "" {
		q.Set("environment", environment)
	}
	found, p := get[ledger.Series](d, r, twin(api.PathSeries, q))
	if p != nil {
		found = ledger.Series{} // charts of nothing
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(drawn(found)); err != nil {
		return // the caller has gone
	}
}

// drawn is a series as the charts want it.
func drawn(found ledger.Series) series {
	n := len(found.Buckets)
	s := series{
		Times: make([]int64, n), Drifts: make([]int, n), Corrected: make([]int, n), Resolve: make([]*float64, n),
		Runs: make([]int, n), Failed: make([]int, n), Cut: found.Cut,
	}
	for i, b := range found.Buckets {
		s.Times[i] = b.Start.Add(time.Duration(found.BucketSeconds * float64(time.Second))).Unix()
		s.Drifts[i], s.Corrected[i], s.Resolve[i] = sum(b.Opened), sum(b.Ended), b.CorrectMedian
		s.Failed[i] = b.Runs[reconciler.Failed] + b.Runs[reconciler.Partial]
		s.Runs[i] = sum(b.Runs) - s.Failed[i]
	}
	return s
}

func sum[K comparable](counts map[K]int) int {
	all := 0
	for _, n := range counts {
		all += n
	}
	return all
}
