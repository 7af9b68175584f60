package rig

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// Requests is how many requests the API server answered, by "VERB resource".
// Watches, which renew themselves, and leases are left out.
type Requests map[string]int

// Since is what was added after an earlier reading.
func (r Requests) Since(before Requests) Requests {
	out := Requests{}
	for kind, n := range r {
		if n > before[kind] {
			out[kind] = n - before[kind]
		}
	}
	return out
}

// Total is the number of requests of all kinds.
func (r Requests) Total() int {
	total := 0
	for _, n := range r {
		total += n
	}
	return total
}

// String is "2 GET configmaps, 1 LIST secrets".
func (r Requests) String() string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(r)) {
		parts = append(parts, strconv.Itoa(r[kind])+" "+kind)
	}
	return strings.Join(parts, ", ")
}

// Requests reads the server's own counter, which counts every client, the
// control plane's controllers included.
func (c *Cluster) Requests(ctx context.Context) (Requests, error) {
	cfg := rest.CopyConfig(c.Config)
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("read the server's metrics: %w", err)
	}
	text, err := client.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the server's metrics: %w", err)
	}
	return countRequests(text)
}

// countRequests reads one metric out of the text format. Its labels hold names
// only, never a quote, a comma or a brace.
func countRequests(text []byte) (Requests, error) {
	out := Requests{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "apiserver_request_total{")
		if !ok {
			continue
		}
		names, value, _ := strings.Cut(rest, "} ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("read the server's metrics: unexpected line %q", lines.Text())
		}
		labels := map[string]string{}
		for label := range strings.SplitSeq(names, ",") {
			name, quoted, _ := strings.Cut(label, "=")
			labels[name] = strings.Trim(quoted, `"`)
		}
		if labels["resource"] == "" || labels["resource"] == "leases" || strings.HasPrefix(labels["verb"], "WATCH") {
			continue
		}
		out[labels["verb"]+" "+labels["resource"]] += int(n)
	}
	return out, lines.Err()
}
