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
	// Drifts counts those that began, Corrected those that ended in a correction.
	Drifts    []int `json:"drifts"`
	Corrected []int `json:"corrected"`
	// Resolve is how long drifts took that ended, on average and in seconds; null
	// where none did.
	Resolve []*float64 `json:"resolve"`
	// Runs counts those that ended well, Failed the others.
	Runs   []int `json:"runs"`
	Failed []int `json:"failed"`
	// Cut: there was more than is counted here.
	Cut bool `json:"cut"`
}

func newSeries(now time.Time) series {
	s := series{
		Times: make([]int64, chartBins), Drifts: make([]int, chartBins), Corrected: make([]int, chartBins), Resolve: make([]*float64, chartBins),
		Runs: make([]int, chartBins), Failed: make([]int, chartBins),
	}
	for i := range s.Times {
		s.Times[i] = now.Add(-chartSpan + time.Duration(i+1)*chartSpan/chartBins).Unix()
	}
	return s
}

// bin is the part that a time is in; -1 if in none.
func bin(now, t time.Time) int {
	i := int(t.Sub(now.Add(-chartSpan)) * chartBins / chartSpan)
	switch {
	case t.Before(now.Add(-chartSpan)) || i > chartBins:
		return -1
	case i == chartBins:
		return chartBins - 1
	}
	return i
}

func (d *Dashboard) series(w http.ResponseWriter, r *http.Request) {
	now := d.opts.Now()
	s := newSeries(now)
	q := url.Values{"since": {chartSpan.String()}, "limit": {strconv.Itoa(ledger.MaxLimit)}}
	if environment := r.URL.Query().Get("environment"); environment != "" {
		q.Set("environment", environment)
	}
	if drifts, p := get[api.DriftHistory](d, r, twin(api.PathDriftHistory, q)); p == nil {
		s.addDrifts(now, drifts)
	}
	if runs, p := get[ledger.Runs](d, r, twin(api.PathRuns, q)); p == nil {
		s.addRuns(now, runs)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return // the caller has gone
	}
}

func (s *series) addDrifts(now time.Time, found api.DriftHistory) {
	s.Cut = s.Cut || found.Next != ""
	took, ended := make([]time.Duration, chartBins), make([]int, chartBins)
	for _, e := range found.Episodes {
		if i := bin(now, e.FirstSeen); i >= 0 {
			s.Drifts[i]++
		}
		if i := bin(now, e.Ended); i >= 0 && !e.Ended.IsZero() {
			s.Corrected[i]++
			ended[i]++
			took[i] += e.Ended.Sub(e.FirstSeen)
		}
	}
	for i, n := range ended {
		if n > 0 {
			mean := (took[i] / time.Duration(n)).Seconds()
			s.Resolve[i] = &mean
		}
	}
}

func (s *series) addRuns(now time.Time, found ledger.Runs) {
	s.Cut = s.Cut || found.Next != ""
	for _, run := range found.Runs {
		i := bin(now, run.Finished)
		switch {
		case i < 0:
		case run.Result == reconciler.Failed || run.Result == reconciler.Partial:
			s.Failed[i]++
		default:
			s.Runs[i]++
		}
	}
}
