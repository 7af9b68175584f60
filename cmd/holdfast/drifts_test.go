package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestSingleDriftsAreDecidedOn(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "decide-" + ns
	spec := func(mode string) string {
		return environmentSpec(env, "app", ns, "drift:\n  mode: "+mode+"\n  severity:\n    - when: object.name == \"b\"\n      severity: critical")
	}
	s.repo.Commit(t, map[string]string{
		"environments/e.yaml": spec("report"),
		"app/a.yaml":          configMap("a", "color", "blue"),
		"app/b.yaml":          "# Kept as it is.\n" + configMap("b", "color", "blue"),
		"app/c.yaml":          configMap("c", "color", "blue"),
		"app/d.yaml":          "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\ndata: {color: blue, size: small}\n",
		"app/secret.yaml":     "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: planted-sentinel}\n",
	})
	s.repo.Git(t, "", "config", "http.receivepack", "true")
	s.writeConfig("interval: 1h\n  push: {branches: \"holdfast/*\"}\n  forge: {kind: gitea, page: \"https://git.example.org/team/shop\"}")
	token := filepath.Join(s.dir, "audit-token")
	if err := os.WriteFile(token, []byte("token-of-audit"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.addConfig("audit: {tokenFile: " + token + "}\n")
	s.start()
	s.settled(env, reconciler.Applied)
	for _, name := range []string{"a", "b", "c"} {
		s.edit(ns, name, `{"data":{"color":"red"}}`)
	}
	s.edit(ns, "d", `{"data":{"color":"red","size":"large"}}`)
	secrets := cms
	secrets.Resource = "secrets"
	if _, err := s.objects.Resource(secrets).Namespace(ns).Patch(context.Background(), "s", types.MergePatchType,
		[]byte(`{"stringData":{"token":"planted-sentinel-2"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		s.expectDrift(env, "ConfigMap/"+ns+"/"+name+".data.color")
	}
	s.expectDrift(env, "ConfigMap/"+ns+"/d.data.size")
	s.expectDrift(env, "Secret/"+ns+"/s")
	s.nameAnn(ns, "b")

	for _, format := range []string{"table", "json", "yaml", "markdown", "html", "csv"} {
		text := s.verb(2, "drift", env, "--expand", "-o", format)
		plain := strings.ReplaceAll(text, `\`, "")
		for _, want := range []string{".data.color", "red", "blue", "kubectl-edit", "critical", "ann"} {
			if !strings.Contains(plain, want) {
				t.Errorf("as %s it lacks %s:\n%s", format, want, text)
			}
		}
		for _, bad := range []string{"planted-sentinel", "cGxhbnRlZC1zZW50aW5lb"} {
			if strings.Contains(text, bad) {
				t.Errorf("as %s it shows a secret:\n%s", format, text)
			}
		}
	}
	b, c := "ConfigMap/"+ns+"/b", "ConfigMap/"+ns+"/c"
	if text := s.verb(0, "drift", "ignore", env, b); !strings.Contains(text, `namespace: `+ns+`, name: b, paths: ["/data/color"], managers: ["kubectl-edit"], mode: ignore`) {
		t.Errorf("the rule:\n%s", text)
	}
	s.verb(1, "drift", "codify", env, "Secret/"+ns+"/s")
	s.codifies(env, b)
	s.proposes(env, b)
	s.verb(0, "drift", "revert", env, "ConfigMap/"+ns+"/a", "--reason", "by mistake")
	s.expectValue(ns, "a", "color", "blue")

	s.verb(3, "drift", "accept", env, c, "--for", "1h")
	s.verb(0, "drift", "accept", env, c, "--field", ".data.color", "--for", "10s", "--reason", "is known", "--author", "ann")
	s.verb(0, "drift", "accept", env, "ConfigMap/"+ns+"/d", "--field", ".data.color", "--for", "10s", "--reason", "is known, too")
	until := time.Now().Add(9 * time.Second)
	s.repo.Commit(t, map[string]string{"environments/e.yaml": spec("correct")})
	s.resync(env)
	s.expectValue(ns, "b", "color", "blue")
	s.expectValue(ns, "d", "size", "small")
	for _, name := range []string{"c", "d"} {
		if got, err := s.value(ns, name, "color"); (err != nil || got != "red") && time.Now().Before(until) {
			t.Errorf("what was accepted of %s is %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"c", "d"} {
		s.expectValue(ns, name, "color", "blue") // its time is over
	}
	if text := s.verb(0, "history", "--actions"); !strings.Contains(text, "accept") || !strings.Contains(text, "is known") || !strings.Contains(text, "by mistake") {
		t.Errorf("the actions on record:\n%s", text)
	}
}

// addConfig adds to the daemon's file.
func (s *stage) addConfig(text string) {
	s.t.Helper()
	old, err := os.ReadFile(s.config)
	if err == nil {
		err = os.WriteFile(s.config, append(old, text...), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// nameAnn sends what the API server's audit webhook would, and waits until ann is
// named for a ConfigMap's drift.
func (s *stage) nameAnn(ns, name string) {
	s.t.Helper()
	status, err := s.objects.Resource(cms).Namespace(ns).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	at := time.Now()
	for _, m := range status.GetManagedFields() {
		if m.Manager == "kubectl-edit" && m.Time != nil {
			at = m.Time.Time
		}
	}
	body := fmt.Sprintf(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"stage":"ResponseComplete","verb":"patch",
		"requestURI":"/api/v1/namespaces/%s/configmaps/%s?fieldManager=kubectl-edit","user":{"username":"ann"},"userAgent":"kubectl/v1",
		"objectRef":{"resource":"configmaps","namespace":%q,"name":%q},"responseStatus":{"code":200},"stageTimestamp":%q}]}`,
		ns, name, ns, name, at.UTC().Format(time.RFC3339Nano))
	client := s.overSocket()
	for token, want := range map[string]int{"": http.StatusUnauthorized, "token-of-audit": http.StatusNoContent} {
		r, err := http.NewRequest(http.MethodPost, "http://holdfast"+api.PathAudit, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			s.t.Errorf("audit events with token %q: %s", token, res.Status)
		}
	}
	s.until("ann is named", func() error {
		report, err := s.client.Drift(context.Background(), api.DriftQuery{})
		for _, e := range report.Episodes {
			if e.Object == (sources.ID{Kind: "ConfigMap", Namespace: ns, Name: name}) && e.Person != nil && e.Person.User == "ann" {
				return err
			}
		}
		return fmt.Errorf("%v: %+v", err, report.Episodes)
	})
}

// codifies sees that the patch for a drift makes git say red, and nothing else.
func (s *stage) codifies(env, object string) {
	s.t.Helper()
	patch := s.verb(0, "drift", "codify", env, object)
	dir := s.t.TempDir()
	file := filepath.Join(dir, "app", "b.yaml")
	before := "# Kept as it is.\n" + configMap("b", "color", "blue")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command("git", "apply", "-")
	c.Dir, c.Stdin = dir, strings.NewReader(patch)
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("git apply: %v %s\n%s", err, out, patch)
	}
	after, err := os.ReadFile(file)
	if err != nil || string(after) != strings.Replace(before, "blue", "red", 1) {
		s.t.Errorf("%v: it became\n%s", err, after)
	}
}

// TestAStormIsOneRow: one manager edits many objects at once; all are put back, and
// the report is one row.
func TestAStormIsOneRow(t *testing.T) {
	t.Parallel()
	n := 200
	if os.Getenv("HOLDFAST_LONG") != "" {
		n = 2000
	}
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "storm-" + ns
	files := map[string]string{"environments/e.yaml": environmentSpec(env, "app", ns, "")}
	name := func(i int) string { return fmt.Sprintf("c%d", i) }
	for i := range n {
		files["app/"+name(i)+".yaml"] = configMap(name(i), "color", "blue")
	}
	s.repo.Commit(t, files)
	s.start()
	s.settled(env, reconciler.Applied)
	begin := time.Now()
	var all sync.WaitGroup
	next := make(chan int)
	for range 10 {
		all.Go(func() {
			for i := range next {
				if _, err := s.objects.Resource(cms).Namespace(ns).Patch(context.Background(), name(i), types.MergePatchType,
					[]byte(`{"data":{"color":"red"}}`), metav1.PatchOptions{FieldManager: "script"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	var report drift.Report
	s.until("all are put back", func() error {
		var err error
		if report, err = s.client.Drift(context.Background(), api.DriftQuery{Environment: env}); err != nil {
			return err
		}
		ended := 0
		for _, e := range report.Episodes {
			if e.State == drift.Corrected {
				ended++
			}
		}
		if ended != n {
			return fmt.Errorf("%d of %d", ended, n)
		}
		return nil
	})
	t.Logf("%d edits by one manager were put back within %s", n, time.Since(begin).Round(time.Millisecond))
	for i := range n {
		if got, err := s.value(ns, name(i), "color"); err != nil || got != "blue" {
			t.Errorf("%s is %q, %v", name(i), got, err)
		}
	}
	if groups := report.ByCause().Groups; len(groups) != 1 || groups[0].Objects != n || groups[0].By[0] != "script" {
		raw, _ := json.Marshal(groups)
		t.Errorf("%d rows: %.2000s", len(groups), raw)
	}
	if text := s.verb(0, "drift", env); !strings.Contains(text, fmt.Sprintf("%d × ConfigMap", n)) {
		t.Errorf("the report:\n%s", text)
	}
}

// TestWhatOthersAddIsListedAndNoDrift: where the spec asks for it, what others add is
// in the report with who did it, and the environment stays clean.
func TestWhatOthersAddIsListedAndNoDrift(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "foreign-" + ns
	s.repo.Commit(t, map[string]string{
		"environments/e.yaml": environmentSpec(env, "app", ns, "drift: {extraFields: true, unmanaged: true}"),
		"app/a.yaml":          configMap("a", "color", "blue"),
	})
	s.start()
	s.settled(env, reconciler.Applied)
	if _, err := s.objects.Resource(cms).Namespace(ns).Patch(context.Background(), "a", types.MergePatchType,
		[]byte(`{"data":{"added":"by-hand"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	s.expectDrift(env, ".data.added")
	text := s.verb(0, "drift", env)
	for _, want := range []string{"extra", "by-hand", "kubectl-edit", "which is no drift"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if text := s.verb(0, "status", env); !strings.Contains(text, "clean") {
		t.Errorf("the status:\n%s", text)
	}
	if _, err := s.objects.Resource(cms).Namespace(ns).Patch(context.Background(), "a", types.MergePatchType,
		[]byte(`{"data":{"color":"red"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	s.expectValue(ns, "a", "color", "blue")
	s.expectValue(ns, "a", "added", "by-hand")
	if text := s.verb(0, "drift", env, "-o", "csv"); !strings.Contains(text, "extra-field") || !strings.Contains(text, "corrected") {
		t.Errorf("both on one object:\n%s", text)
	}
}
