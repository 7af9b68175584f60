package kube

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// Request is a kind of request as the server counts them. Verb is the server's:
// GET, LIST, WATCH, POST, PUT, PATCH, APPLY, DELETE. A watch counts when it ends.
type Request struct {
	Verb, Group, Resource, Code string
}

// String is "APPLY deployments.apps 200".
func (r Request) String() string {
	resource := r.Resource
	if r.Group != "" {
		resource += "." + r.Group
	}
	return r.Verb + " " + resource + " " + r.Code
}

// Requests is how many requests of each kind a server has answered.
type Requests map[Request]int

// Since returns what was added after an earlier reading.
func (r Requests) Since(before Requests) Requests {
	diff := Requests{}
	for k, n := range r {
		if d := n - before[k]; d != 0 {
			diff[k] = d
		}
	}
	return diff
}

// Total is the number of requests of all kinds that match; nil matches all.
func (r Requests) Total(match func(Request) bool) int {
	total := 0
	for k, n := range r {
		if match == nil || match(k) {
			total += n
		}
	}
	return total
}

// String lists the kinds with their numbers, for the message of a failed test.
func (r Requests) String() string {
	var b strings.Builder
	for _, k := range slices.SortedFunc(maps.Keys(r), func(a, b Request) int { return strings.Compare(a.String(), b.String()) }) {
		fmt.Fprintf(&b, "%6d %s\n", r[k], k)
	}
	return b.String()
}

// CountRequests reads from the server how many requests for resources it has
// answered since it started. It counts those of every client, the control
// plane's own included, so it suits a server of one's own; to count what one
// client sends, use Faults.
func CountRequests(t testing.TB, cfg *rest.Config) Requests {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	text, err := do(ctx, cfg, http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatalf("count the server's requests: %v", err)
	}
	counts, err := parseRequests(text)
	if err != nil {
		t.Fatalf("count the server's requests: %v", err)
	}
	return counts
}

const requestTotal = "apiserver_request_total{"

// parseRequests reads the one metric that is wanted out of the text format. Its
// labels hold names only, so that none contains a quote, a comma or a brace.
func parseRequests(text []byte) (Requests, error) {
	counts := Requests{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), requestTotal)
		if !ok {
			continue
		}
		labels, value, ok := strings.Cut(rest, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("unexpected metric %q", lines.Text())
		}
		var r Request
		for label := range strings.SplitSeq(labels, ",") {
			name, quoted, _ := strings.Cut(label, "=")
			v := strings.Trim(quoted, `"`)
			switch name {
			case "verb":
				r.Verb = v
			case "group":
				r.Group = v
			case "resource":
				r.Resource = v
			case "code":
				r.Code = v
			}
		}
		if r.Resource != "" {
			counts[r] += int(n)
		}
	}
	return counts, lines.Err()
}
