package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// result is one thing measured.
type result struct {
	// Name is "1000/cold-apply".
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Limit is what Value is to stay below: what was measured raw, times the
	// factor that is the goal; or a fixed number where nothing raw exists.
	Limit float64 `json:"limit"`
	// Ratio is Value to the raw measure, or to Limit where nothing raw exists; 0
	// where neither can be divided by.
	Ratio float64 `json:"ratio"`

	raw float64
}

type results []result

// against makes a result with a raw measure and the factor of the goal.
func against(name string, value, raw time.Duration, factor float64) result {
	v, r := millis(value), millis(raw)
	return result{Name: name, Value: v, Unit: "ms", Limit: round(r * factor), Ratio: ratio(v, r), raw: r}
}

// within makes a result with a fixed limit.
func within(name string, value float64, unit string, limit float64) result {
	return result{Name: name, Value: round(value), Unit: unit, Limit: limit, Ratio: ratio(value, limit)}
}

func millis(d time.Duration) float64 { return round(d.Seconds() * 1000) }

func round(v float64) float64 { return math.Round(v*100) / 100 }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return round(a / b)
}

// table is for people.
func (rs results) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "objects\tmeasure\traw\tholdfast\tgoal\tratio\t\t")
	for _, r := range rs {
		objects, name, _ := strings.Cut(r.Name, "/")
		raw, verdict := "-", "met"
		if r.raw > 0 {
			raw = number(r.raw, r.Unit)
		}
		if r.Value > r.Limit {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t≤ %s\t%.2f\t%s\t\n",
			objects, name, raw, number(r.Value, r.Unit), number(r.Limit, r.Unit), r.Ratio, verdict)
	}
	_ = w.Flush() // writing into memory does not fail
	return b.String()
}

func number(v float64, unit string) string {
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

// write writes the results for programs.
func (rs results) write(path string) error {
	text, err := json.MarshalIndent(rs, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// percentile is the smallest value that a share p of all are not above.
func percentile[T cmp.Ordered](values []T, p float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}

func median[T cmp.Ordered](values []T) T { return percentile(values, 0.5) }
