package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// leaks are the forms in which a secret could come out: as it is, and as base64,
// wherever in a text that begins.
func leaks(words ...string) (forms []string) {
	for _, word := range words {
		forms = append(forms, word)
		for before := range 3 {
			text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + word))
			forms = append(forms, text[(before*8+5)/6:(before+len(word))*8/6])
		}
	}
	return forms
}

// said is what came out of a program, by where it came out.
type said struct {
	mu   sync.Mutex
	text map[string]string
}

func (s *said) add(where, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text[where] += text
}

// ServeHTTP takes whatever is sent to others: messages, statuses of commits, traces.
func (s *said) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	part, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.add("sent to "+part, r.URL.String()+"\n"+string(body)+"\n")
	if strings.Contains(r.URL.Path, "/statuses/") {
		w.WriteHeader(http.StatusCreated)
	}
}

// has waits until something was said somewhere.
func (s *said) has(where, what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(s.text[where], what) {
		return fmt.Errorf("%s: %s", where, s.text[where])
	}
	return nil
}

// secretsApp is a folder with secrets in all the places where there can be some; what
// came out of encrypted files gets into a ConfigMap and into a Deployment.
func secretsApp(t *testing.T) map[string]string {
	t.Helper()
	encrypted, err := os.ReadFile("../../sources/sops/testdata/app.env")
	if err != nil {
		t.Fatal(err)
	}
	secret := func(name, more string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, annotations: {note: planted-note}}\nstringData: {a: planted-string}\ndata: {b: %s}\n%s",
			name, base64.StdEncoding.EncodeToString([]byte("planted-data")), more)
	}
	return map[string]string{
		"app/kustomization.yaml": `resources: [left.yaml, back.yaml, bad.yaml, plain.yaml, work.yaml]
configMapGenerator: [{name: decrypted, envs: [app.env]}]
generatorOptions: {disableNameSuffixHash: true}
replacements:
- source: {kind: ConfigMap, name: decrypted, fieldPath: data.PASSWORD}
  targets: [{select: {kind: Deployment, name: work}, fieldPaths: ["spec.template.spec.containers.[name=c].env.[name=PASSWORD].value"]}]
`,
		"app/app.env":    string(encrypted),
		"app/left.yaml":  secret("left", ""),
		"app/back.yaml":  secret("back", ""),
		"app/bad.yaml":   "apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: planted-refused}\n",
		"app/plain.yaml": configMap("plain", "color", "visible-git"),
		"app/work.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: work}
spec:
  replicas: 0
  selector: {matchLabels: {a: work}}
  template:
    metadata: {labels: {a: work}}
    spec: {containers: [{name: c, image: i, env: [{name: PASSWORD, value: replaced}]}]}
`,
	}
}

// TestSecretsComeOutNowhere plants secrets wherever they can be, in git, in the
// cluster, in the configuration and in what is told to the daemon, lets them drift, be
// corrected, refused, changed and decided on, and looks for them in all that the
// program says, serves, sends and keeps.
func TestSecretsComeOutNowhere(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "secrets-" + ns
	s.patience = time.Minute
	all := &said{text: map[string]string{}}
	s.repo = s.git.Repo(t, "team/shop")
	s.configureSecrets(all)
	files := secretsApp(t)
	files["environments/e.yaml"] = environmentSpec(env, "app", ns, `decryption: {sops: {keys: [team]}}
drift:
  extraFields: true
  unmanaged: true
  rules: [{name: left, mode: report}]
  severity: [{when: object.name != "", severity: critical}]`)
	s.repo.Commit(t, files)
	s.start()
	heard := s.listen("")
	s.settled(env, reconciler.Partial) // one is refused
	s.plantLive(env, ns)
	s.until("a message about it is sent", func() error { return all.has("sent to inbox", "Secret/"+ns+"/left") })
	s.repo.Commit(t, map[string]string{"app/back.yaml": strings.Replace(files["app/back.yaml"], "planted-string", "planted-next", 1)})
	s.resync(env)
	s.verb(0, "drift", "accept", env, "Secret/"+ns+"/left", "--for", "1h", "--reason", "is looked into")
	s.until("a commit's status is sent", func() error { return all.has("sent to api", `"state":"failure"`) })

	s.sayAll(all, env, ns)
	s.serveAll(all)
	s.keptInCluster(all, env, ns)
	events, err := json.Marshal(heard.events())
	if err != nil || !strings.Contains(string(events), "drift.opened") {
		t.Errorf("events %s, %v", events, err)
	}
	all.add("events", string(events))
	s.stop() // which sends the traces that are left
	s.keptOnDisk(all)
	where := []string{"GET /api/v1/drift", "sent to inbox"}
	for _, format := range []string{"table", "json", "yaml", "markdown", "html", "csv"} {
		where = append(where, "holdfast drift "+env+" -o "+format)
	}
	for page, text := range all.text {
		if strings.HasPrefix(page, "GET /drift/") {
			all.add("pages of drift", text)
		}
	}
	for _, where := range append(where, "pages of drift") {
		if err := all.has(where, "visible-live"); err != nil { // so the search is one
			t.Errorf("what is no secret is not there, either: %.2000s", err)
		}
	}
	if err := all.has("sent to traces", "wait for turn"); err != nil {
		t.Error(err)
	}
	// The last two are of the encrypted file.
	forms := leaks("planted-", `with=equals and`, "admin-user")
	for where, text := range all.text {
		for _, form := range forms {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("%s holds a secret: …%.200q", where, text[max(0, i-120):])
			}
		}
	}
}

// configureSecrets writes a configuration with everything that takes a secret.
func (s *stage) configureSecrets(all *said) {
	s.t.Helper()
	out := httptest.NewServer(all)
	s.t.Cleanup(out.Close)
	file := func(name, text string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
	key, err := filepath.Abs("../../sources/sops/testdata/age.key")
	if err != nil {
		s.t.Fatal(err)
	}
	s.writeConfig(fmt.Sprintf("interval: 1h\n  keys: [team]\n  forge: {kind: gitea, api: \"%s/api/v1\", tokenFile: %s, statuses: true}", out.URL, file("forge", "planted-forge")))
	s.addConfig(fmt.Sprintf(`
decryption: {sops: {keys: [{name: team, ageFile: %s}]}}
audit: {tokenFile: %s}
server: {tokenFile: %s}
webhooks: [{name: forge, kind: github, secretFile: %s}]
tracing: {endpoint: "%s/traces", headersFile: %s}
notifications:
  link: "https://holdfast.example.org"
  receivers: [{name: ops, kind: webhook, url: "%s/inbox", secretFile: %s}]
  routes: [{receivers: [ops]}]
  group: 0s
  settle: 0s
`, key, file("audit", "planted-audit"), file("token", "planted-token"), file("hook", "planted-hook"), out.URL, file("headers", "X-Key: planted-header"), out.URL, file("sign", "planted-sign")))
}

// plantLive lets every object drift, with secrets, adds some to them and beside them,
// and tells the daemon of it as an API server does.
func (s *stage) plantLive(env, ns string) {
	s.t.Helper()
	patch := func(r schema.GroupVersionResource, name, body string) {
		s.t.Helper()
		if _, err := s.objects.Resource(r).Namespace(ns).Patch(context.Background(), name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
			s.t.Fatal(err)
		}
	}
	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	for _, name := range []string{"left", "back"} {
		patch(secrets, name, `{"stringData":{"a":"planted-live","b":null,"more":"planted-more"},"metadata":{"annotations":{"note":"planted-live-note","kubectl.kubernetes.io/last-applied-configuration":"planted-last"}}}`)
	}
	patch(cms, "decrypted", `{"data":{"PASSWORD":"planted-live-password","more":"planted-more"}}`)
	patch(deployments, "work", `{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"PASSWORD","value":"planted-live-env"},{"name":"MORE","value":"planted-more"}]}]}}}}`)
	patch(cms, "plain", `{"data":{"color":"visible-live"}}`)
	stray := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "stray", "annotations": map[string]any{"a": "planted-stray"}},
		"stringData": map[string]any{"a": "planted-stray"},
	}}
	if _, err := s.objects.Resource(secrets).Namespace(ns).Create(context.Background(), stray, metav1.CreateOptions{FieldManager: "kubectl-create"}); err != nil {
		s.t.Fatal(err)
	}
	body := fmt.Sprintf(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"stage":"ResponseComplete","verb":"patch",
		"requestURI":"/api/v1/namespaces/%s/secrets/left?fieldManager=kubectl-edit","user":{"username":"ann","extra":{"a":["planted-extra"]}},"userAgent":"kubectl/v1",
		"requestObject":{"stringData":{"a":"planted-request"}},"responseObject":{"data":{"a":"cGxhbnRlZC1yZXNwb25zZQ=="}},
		"objectRef":{"resource":"secrets","namespace":%q,"name":"left"},"responseStatus":{"code":200},"stageTimestamp":"2026-01-01T00:00:00Z"}]}`, ns, ns)
	r, err := http.NewRequest(http.MethodPost, "http://holdfast"+api.PathAudit, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer planted-audit")
	res, err := s.overSocket().Do(r)
	if err != nil || res.StatusCode != http.StatusNoContent {
		s.t.Fatalf("audit events: %v, %v", res, err)
	}
	res.Body.Close()
	for _, want := range []string{
		"Secret/" + ns + "/left.data.a: (sensitive) -> (sensitive) by kubectl-edit", "Secret/" + ns + "/back.data.a: (sensitive) -> (sensitive) by kubectl-edit, corrected",
		"ConfigMap/" + ns + "/decrypted.data.PASSWORD: (sensitive) -> (sensitive)", "Deployment/" + ns + "/work.spec.template.spec.containers[name=c].env[name=PASSWORD].value: (sensitive) -> (sensitive)", `"visible-git" -> "visible-live"`,
		"extra-field Secret/" + ns + "/left.data.more: (absent) -> (sensitive)", "extra-field ConfigMap/" + ns + "/decrypted.data.more: (absent) -> (sensitive)",
		"work.spec.template.spec.containers[name=c].env[name=MORE]: (absent) -> (sensitive)", "unmanaged Secret/" + ns + "/stray",
	} {
		s.expectDrift(env, want)
	}
}

// overSocket is a client of the daemon that needs no token.
func (s *stage) overSocket() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "data", "holdfast.sock"))
	}, DisableKeepAlives: true}, Timeout: time.Minute}
}

// sayAll calls the verbs, in each of their formats.
func (s *stage) sayAll(all *said, env, ns string) {
	s.t.Helper()
	left := "Secret/" + ns + "/left"
	plain := [][]string{
		{"status"}, {"status", env}, {"status", "--last-resync"}, {"history"}, {"history", env}, {"history", "--actions"}, {"history", "--object", left},
		{"plan", env}, {"plan", env, "--ref", "main"}, {"objects", env}, {"targets"}, {"targets", "default"}, {"sources"}, {"sources", "shop"}, {"delivery"}, {"ledger", "check"},
		{"drift", env, "--expand"}, {"drift", env, "--since", "1h"}, {"drift", env, "--since", "1h", "--group-by", "manager"}, {"drift", "ignore", env, left},
		{"drift", "codify", env, left}, {"resync", env, "--wait", "--verify"},
	}
	var calls [][]string
	for _, args := range plain {
		for _, format := range []string{"table", "json", "yaml"} {
			calls = append(calls, append(slices.Clone(args), "-o", format))
		}
	}
	for _, format := range []string{"table", "json", "yaml", "markdown", "html", "csv"} {
		calls = append(calls, []string{"drift", env, "-o", format}, []string{"drift", env, "--blame", "--expand", "-o", format})
	}
	calls = append(calls, []string{"plan", env, "-o", "markdown"}, []string{"drift", "revert", env, left, "--reason", "is put back"})
	for _, args := range calls {
		out, _ := program(append(args, "--data-dir", filepath.Join(s.dir, "data"))...).CombinedOutput() // the codes are others' business
		if len(out) == 0 {
			s.t.Errorf("%v says nothing", args)
		}
		all.add("holdfast "+strings.Join(args, " "), string(out))
	}
}

var (
	idField = regexp.MustCompile(`"id":\s*"([^"]+)"`)
	link    = regexp.MustCompile(`(?:href|data-[a-z]+|src)="(/[^"]*)"`)
)

// serveAll asks for everything that is served: each path of the API's own
// description, with each id that was seen, and every page that pages lead to.
func (s *stage) serveAll(all *said) {
	s.t.Helper()
	client := s.overSocket()
	get := func(path string) string {
		s.t.Helper()
		res, err := client.Get("http://holdfast" + path)
		if err != nil {
			s.t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			s.t.Fatal(err)
		}
		if res.StatusCode >= 500 {
			s.t.Errorf("GET %s: %s", path, res.Status)
		}
		all.add("GET "+path, fmt.Sprint(res.Header, "\n", string(text)))
		return string(text)
	}
	var described struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(get(api.PathOpenAPI)), &described); err != nil {
		s.t.Fatal(err)
	}
	environments, err := s.client.Environments(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	names := map[string][]string{api.PathSources: {"shop"}, api.PathTargets: {"default"}}
	for _, e := range environments.Environments {
		names[api.PathEnvironments] = append(names[api.PathEnvironments], e.Name)
	}
	for _, of := range []string{api.PathRuns, api.PathDrift} {
		for _, m := range idField.FindAllStringSubmatch(get(of), -1) {
			names[of] = append(names[of], m[1])
		}
	}
	asked := 0
	for path, methods := range described.Paths {
		if methods["get"] == nil || path == api.PathEvents { // which goes on, and is listened to
			continue
		}
		of, rest, one := strings.Cut(path, "/{")
		if !one {
			get(path)
			asked++
			continue
		}
		_, rest, _ = strings.Cut(rest, "}")
		if len(names[of]) == 0 {
			s.t.Errorf("nothing is known that %s could be asked for", path)
		}
		for _, name := range names[of] {
			get(of + "/" + name + rest)
			asked++
		}
	}
	if asked < 30 {
		s.t.Errorf("of the API only %d answers were had", asked)
	}
	get("/metrics")
	pages, seen := []string{"/", "/health", "/series"}, map[string]bool{}
	for len(pages) > 0 && len(seen) < 300 {
		page := pages[0]
		if pages = pages[1:]; seen[page] || strings.HasPrefix(page, "/assets/") || strings.HasPrefix(page, api.PathEvents) {
			continue
		}
		seen[page] = true
		for _, m := range link.FindAllStringSubmatch(get(page), -1) {
			next, _, _ := strings.Cut(strings.ReplaceAll(m[1], "&amp;", "&"), "#")
			pages = append(pages, next)
		}
	}
	if len(seen) < 15 {
		s.t.Errorf("pages led to no more than %v", seen)
	}
}

// keptInCluster is what is written beside the objects: Events and records.
func (s *stage) keptInCluster(all *said, env, ns string) {
	s.t.Helper()
	events := schema.GroupVersionResource{Version: "v1", Resource: "events"}
	list, err := s.objects.Resource(events).Namespace(ns).List(s.t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		s.t.Errorf("%d Events, %v", len(list.Items), err)
	}
	for _, e := range list.Items {
		all.add("Events", fmt.Sprint(e.Object))
	}
	for _, name := range []string{"holdfast-" + env, "holdfast-" + env + ".state"} {
		u, err := s.objects.Resource(cms).Namespace("holdfast-test").Get(s.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			s.t.Error(err)
			continue
		}
		all.add("ConfigMap "+name, fmt.Sprint(u.Object))
	}
}

// keptOnDisk is the log and every file of the data directory.
func (s *stage) keptOnDisk(all *said) {
	s.t.Helper()
	for _, dir := range []string{filepath.Join(s.dir, "log"), filepath.Join(s.dir, "data")} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			all.add(path, string(text))
			return err
		})
		if err != nil {
			s.t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "data", "ledger.db")); errors.Is(err, os.ErrNotExist) {
		s.t.Error("there is no ledger")
	}
}
