package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// exposed is what a daemon's metrics are called, with the labels that each has.
type exposed map[string]map[string]bool

// metrics are the daemon's, over its socket.
func (s *stage) metrics() string {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "data", "holdfast.sock"))
	}}}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://localhost/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// scrape reads what the daemon exposes.
func (s *stage) scrape() exposed {
	s.t.Helper()
	// What Prometheus makes and adds by itself.
	out := exposed{"up": {"job": true, "instance": true}}
	lines := bufio.NewScanner(strings.NewReader(s.metrics()))
	for lines.Scan() {
		m := sample.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		labels := out[m[1]]
		if labels == nil {
			labels = map[string]bool{"job": true, "instance": true}
			out[m[1]] = labels
		}
		for _, l := range pair.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = true
		}
	}
	if err := lines.Err(); err != nil {
		s.t.Fatal(err)
	}
	return out
}

var (
	sample    = regexp.MustCompile(`^([a-z_]+)(\{.*\})? [-+0-9.eNaInf]+$`)
	pair      = regexp.MustCompile(`([a-z_]+)="[^"]*"`)
	exprToken = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9.]+|=~|!~|!=|==|>=|<=|[-+*/(){},=<>]`)
	isName    = regexp.MustCompile(`^[a-zA-Z_:]`)
	functions = []string{"max", "min", "sum", "count", "rate", "increase", "histogram_quantile", "time", "vector", "absent"}
	keywords  = []string{"by", "without", "or", "and", "unless"}
)

// check says what in an expression of Prometheus is not exposed: a metric, a label
// of the metrics, a word as a label's value. It reads no more of the language than
// the examples use, and refuses the rest.
func (e exposed) check(expr string) (problems []string, labels []string) {
	tokens := exprToken.FindAllString(expr, -1)
	if strings.Join(tokens, "") != strings.ReplaceAll(expr, " ", "") {
		return []string{"not understood"}, nil
	}
	var metrics, named []string
	depth := 0
	for i, t := range tokens {
		next := func(n int) string {
			if i+n < len(tokens) {
				return tokens[i+n]
			}
			return ""
		}
		switch {
		case t == "{":
			depth++
		case t == "}":
			depth--
		case !isName.MatchString(t) || slices.Contains(keywords, t):
		case depth > 0:
			named = append(named, t)
			problems = append(problems, words(t, next(1), next(2))...)
		case next(1) == "(" || next(1) == "by":
			if !slices.Contains(functions, t) {
				problems = append(problems, "no function "+t)
			}
		case inGrouping(tokens[:i]):
			named = append(named, t)
		default:
			metrics = append(metrics, t)
			if e[t] == nil {
				problems = append(problems, "no metric "+t)
			}
		}
	}
	if len(metrics) == 0 {
		problems = append(problems, "no metric at all")
	}
	for _, label := range named {
		if !slices.ContainsFunc(metrics, func(m string) bool { return e[m][label] }) {
			problems = append(problems, "no label "+label)
		}
	}
	for _, m := range metrics {
		for label := range e[m] {
			labels = append(labels, label)
		}
	}
	return problems, labels
}

// inGrouping reports whether the next token stands in the list after by.
func inGrouping(before []string) bool {
	for i := len(before) - 1; i >= 0 && before[i] != ")"; i-- {
		if before[i] == "(" {
			return i > 0 && (before[i-1] == "by" || before[i-1] == "without")
		}
	}
	return false
}

// stands are the words of the labels that say how an environment stands. Only the
// one that holds is exposed.
var stands = map[string][]string{
	"sync": {
		string(reconciler.SyncPending), string(reconciler.SyncVerifying), string(reconciler.SyncClean), string(reconciler.SyncDrifted),
		string(reconciler.SyncChanges), string(reconciler.SyncFailed), string(reconciler.SyncStale),
		string(reconciler.SyncStandby), string(reconciler.SyncRemoved),
	},
	"health": {
		string(reconciler.HealthUnknown), string(reconciler.HealthReady), string(reconciler.HealthProgressing), string(reconciler.HealthFailed),
	},
}

// words says which of the words that a matcher names a label never has.
func words(label, operator, value string) (problems []string) {
	if stands[label] == nil || operator != "=" && operator != "=~" {
		return nil
	}
	for _, word := range strings.Split(strings.Trim(value, `"`), "|") {
		if !slices.Contains(stands[label], word) {
			problems = append(problems, label+" is never "+word)
		}
	}
	return problems
}

var labelInText = regexp.MustCompile(`\{\{ ?\$?(?:labels\.)?([a-z_]+) ?\}\}`)

// TestMonitoringNamesWhatIsExposed holds the alerts and the dashboard against a
// daemon.
func TestMonitoringNamesWhatIsExposed(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "watched-" + ns
	s.repo.Commit(t, map[string]string{
		"environments/e.yaml": environmentSpec(env, "app", ns, ""),
		"app/a.yaml":          configMap("a", "color", "blue"),
	})
	s.start()
	s.settled(env, reconciler.Applied)
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.expectValue(ns, "a", "color", "blue")
	s.repo.Commit(t, map[string]string{"app/a.yaml": configMap("a", "color", "green")})
	s.resync(env)
	s.expectValue(ns, "a", "color", "green")
	var now exposed
	s.until("the drift's end and the deployment are counted", func() error {
		now = s.scrape()
		if now["holdfast_drift_resolve_seconds_count"] == nil || now["holdfast_deployment_lead_seconds_count"] == nil || now["holdfast_deployments_total"] == nil {
			return os.ErrNotExist
		}
		return nil
	})
	for expr, text := range expressions(t) {
		problems, labels := now.check(expr)
		for _, m := range labelInText.FindAllStringSubmatch(text, -1) {
			if m[1] != "value" && !slices.Contains(labels, m[1]) {
				problems = append(problems, "the text names no label: "+m[1])
			}
		}
		if len(problems) > 0 {
			t.Errorf("%s: %s", expr, strings.Join(problems, "; "))
		}
	}
	for _, wrong := range []string{
		"holdfast_nothing > 0", "rat(holdfast_runs_total[5m])", `holdfast_environment_sync{sync="fine"}`,
		"sum by (source) (holdfast_drifts_open)", "holdfast_drifts_open{result=\"x\"}", "holdfast_drifts_open ^ 2",
	} {
		if problems, _ := now.check(wrong); len(problems) == 0 {
			t.Errorf("%s passes", wrong)
		}
	}
	s.stop()
}

// expressions are those of the alerts and of the dashboard, with their texts.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	data, err := os.ReadFile("../../examples/monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				For         string
				Labels      struct{ Severity string }
				Annotations map[string]string
			}
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	if err := dec.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	for _, r := range rules.Groups[0].Rules {
		if _, err := time.ParseDuration(r.For); r.For != "" && err != nil || r.Labels.Severity == "" || r.Annotations["summary"] == "" {
			t.Errorf("%s: %v, or it lacks severity or summary", r.Alert, err)
		}
		out[r.Expr] = r.Annotations["summary"] + r.Annotations["description"]
	}
	if data, err = os.ReadFile("../../examples/monitoring/dashboard.json"); err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			out[target.Expr] = target.LegendFormat
		}
	}
	if len(out) < 25 {
		t.Fatalf("only %d expressions", len(out))
	}
	return out
}
