package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/internal/testkit/browser"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// The passwords of the tests: of who may operate, and of who may only read.
const (
	operatorToken = "operator-of-the-tests"
	readerToken   = "reader-of-the-tests"
)

// board is a daemon with a dashboard that has something to show.
type board struct {
	*stage
	ns, other string
	address   string
	browser   *browser.Browser
	signedIn  map[string]*browser.Page // by token
}

// newBoard starts a daemon with environments that stand in different ways: one
// drifts, one waits, one is held, one has a broken file.
func newBoard(t *testing.T) *board {
	t.Helper()
	b := &board{browser: browser.Start(t), stage: sharedStage(t), ns: kube.Namespace(t), other: kube.Namespace(t)}
	b.patience = time.Minute
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	l.Close() // the daemon takes it
	b.address = "http://" + listen
	b.configure(listen)
	b.repo.Git(t, "", "config", "http.receivepack", "true")
	b.commit("Begin", map[string]string{
		"environments/prod.yaml": labelled("prod", b.ns, "{tier: gold, team: checkout}", "drift: {mode: report}"),
		"prod/web.yaml": deployment("web", "registry.example.com/web:1.8.1") + "---\n" + configMap("settings", "log-level", "info") +
			"---\napiVersion: v1\nkind: Secret\nmetadata: {name: api-key}\nstringData: {key: planted-sentinel}\n",
		"environments/staging.yaml": labelled("staging", b.other, "{tier: silver, team: checkout}", ""),
		"staging/web.yaml":          strings.Replace(deployment("web", "registry.example.com/web:1.8.2"), "replicas: 0", "replicas: 2", 1) + "---\n" + configMap("settings", "log-level", "debug"),
		"environments/search.yaml":  labelled("search", b.other, "{tier: gold, team: search}", ""),
		"search/index.yaml":         configMap("index", "shards", "4"),
		"environments/batch.yaml":   labelled("batch", b.other, "{tier: silver, team: data}", ""),
		"batch/jobs.yaml":           configMap("jobs", "parallel", "8"),
		"environments/planned.yaml": labelled("planned", b.other, "{tier: silver, team: data}", "mode: plan"),
		"planned/map.yaml":          configMap("planned", "a", "b"),
		"environments/broken.yaml":  labelled("broken", b.other, "{tier: silver, team: search}", ""),
		"broken/config.yaml":        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [\n",
	})
	b.commit("web 1.8.2", map[string]string{"prod/web.yaml": deployment("web", "registry.example.com/web:1.8.2") + "---\n" + configMap("settings", "log-level", "info") +
		"---\napiVersion: v1\nkind: Secret\nmetadata: {name: api-key}\nstringData: {key: planted-sentinel}\n"})
	b.start()
	for _, name := range []string{"prod", "staging", "search", "batch"} {
		b.settled(name, reconciler.Applied)
	}
	b.settled("broken", reconciler.Failed)
	if _, err := b.client.Hold(t.Context(), api.HoldRequest{Environments: []string{"batch"}, For: "2h", Reason: "the month is being closed", Author: "ann"}); err != nil {
		t.Fatal(err)
	}
	b.signedIn = map[string]*browser.Page{operatorToken: b.signIn(t, operatorToken), readerToken: b.signIn(t, readerToken)}
	return b
}

func (b *board) configure(listen string) {
	b.t.Helper()
	tokens := ""
	for name, token := range map[string]string{"operator": operatorToken, "reader": readerToken} {
		path := filepath.Join(b.dir, name)
		if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
			b.t.Fatal(err)
		}
		role := map[string]string{"operator": "operate", "reader": "read"}[name]
		tokens += fmt.Sprintf("\n  - {name: %s, role: %s, file: %s}", name, role, path)
	}
	audit := filepath.Join(b.dir, "audit-token")
	text := fmt.Sprintf(`
listen: %s
dataDir: %s
installation: %s
server:
  tokens:%s
audit: {tokenFile: %s}
targets:
- {name: default, kubeconfig: %s, stateNamespace: %s}
sources:
- name: shop
  url: %s
  ref: main
  interval: 1h
  push: {branches: "holdfast/*"}
  forge: {kind: gitea, page: "https://git.example.org/team/shop"}
  grants: [{target: default, namespaces: ["*"], cluster: true}]
`, listen, filepath.Join(b.dir, "data"), b.installation, tokens, audit, b.kubeconfig, b.ns, b.repo.URL)
	for path, content := range map[string]string{b.config: text, audit: "token-of-audit"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

// commit commits files, in the name of somebody, a while ago.
func (b *board) commit(subject string, files map[string]string) {
	b.t.Helper()
	b.repo.Commit(b.t, files)
	object := b.repo.Git(b.t, "", "cat-file", "commit", "main")
	var head []string
	for line := range strings.Lines(object) {
		if strings.HasPrefix(line, "tree ") || strings.HasPrefix(line, "parent ") {
			head = append(head, line)
		}
	}
	at := time.Now().Add(-25 * time.Minute).Unix()
	text := strings.Join(head, "") + fmt.Sprintf("author Chiara Rossi <chiara@example.com> %d +0000\ncommitter Chiara Rossi <chiara@example.com> %d +0000\n\n%s\n", at, at, subject)
	hash := strings.TrimSpace(b.repo.Git(b.t, text, "hash-object", "-t", "commit", "-w", "--stdin"))
	b.repo.ForcePush(b.t, "refs/heads/main", hash)
}

// labelled is an environment with labels, in the folder of its name.
func labelled(name, namespace, labels, more string) string {
	spec := environmentSpec(name, name, namespace, more)
	return strings.Replace(spec, "metadata: {name: "+name+"}", "metadata: {name: "+name+", labels: "+labels+"}", 1)
}

// deployment is one without pods, which needs no node to be ready.
func deployment(name, image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: 0
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: %[1]s
        image: %[2]s
`, name, image)
}

// signIn signs in with a token, and leaves the dashboard again.
func (b *board) signIn(t *testing.T, token string) *browser.Page {
	t.Helper()
	p := b.browser.Open(t, browser.View{})
	p.Go(b.address + "/login")
	p.Type(`input[name=token]`, token)
	p.Submit(`form[action="/login"] button`)
	p.Until("somebody is signed in", `document.querySelector(".who") !== null`)
	fine(t, p)
	p.Go("about:blank")
	return p
}

// open opens a tab of somebody who has signed in with a token.
func (b *board) open(t *testing.T, token string, v browser.View) *browser.Page {
	t.Helper()
	return b.signedIn[token].Another(t, v)
}

// fine fails the test if the browser complained of a page.
func fine(t *testing.T, p *browser.Page) {
	t.Helper()
	for _, c := range p.Complaints() {
		t.Errorf("the browser complains: %s", c)
	}
}

// row is an expression for how an environment stands in the overview.
func row(environment string) string {
	return fmt.Sprintf(`document.getElementById("env-%s").innerText`, environment)
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	t.Run("is live", b.isLive)
	t.Run("takes decisions by click", b.takesDecisions)
	t.Run("shows what belongs to an object", b.showsTrees)
	b.drifting(t)
	t.Run("is looked at", func(t *testing.T) { // by several at the same time
		for name, look := range map[string]func(*testing.T){
			"pages": b.showsPages, "can be read without script": b.readsWithoutScript,
			"filters": b.filters, "shows no buttons to readers": b.showsReadersNoButtons,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				look(t)
			})
		}
	})
}

// isLive: what happens is to be seen, in the page that is open, without loading
// it again; focus and what is typed stay.
func (b *board) isLive(t *testing.T) {
	p := b.open(t, operatorToken, browser.View{})
	p.Go(b.address + "/")
	p.Until("it is live", `document.getElementById("live").innerText === "live"`)
	p.Until("prod is clean", row("prod")+`.includes("clean")`)
	browser.Eval[bool](p, `window.stayed = true; document.getElementById("filter-text").focus(); true`)
	b.edit(b.ns, "settings", `{"data":{"log-level":"trace"}}`)
	p.Until("the drift shows", row("prod")+`.includes("drifted")`)
	b.verb(0, "drift", "revert", "prod", "ConfigMap/"+b.ns+"/settings")
	p.Until("its correction shows", row("prod")+`.includes("clean")`)
	if !browser.Eval[bool](p, `window.stayed === true && document.activeElement.id === "filter-text"`) {
		t.Error("the page was loaded again, or lost its focus")
	}
	p.Go(b.address + "/environments/prod")
	p.Until("it is live", `document.getElementById("live").innerText === "live"`)
	p.Click("#menu-more > summary")
	b.edit(b.ns, "settings", `{"data":{"log-level":"trace"}}`)
	p.Until("the drift shows", `document.querySelector(".drifts") !== null`)
	if !browser.Eval[bool](p, `document.getElementById("menu-more").open`) {
		t.Error("what was open is closed")
	}
	b.verb(0, "drift", "revert", "prod", "ConfigMap/"+b.ns+"/settings")
	p.Until("its correction shows", `document.querySelector(".drifts") === null`)
	fine(t, p)
}

// takesDecisions accepts one drift and reverts another, by click.
func (b *board) takesDecisions(t *testing.T) {
	b.edit(b.ns, "settings", `{"data":{"log-level":"trace"}}`)
	b.expectDrift("prod", "ConfigMap/"+b.ns+"/settings.data.log-level")
	b.nameAnn(b.ns, "settings")
	p := b.open(t, operatorToken, browser.View{})
	p.Go(b.address + "/drift")
	p.Submit(`a[href^="/drift/"]:not([aria-current])`)
	text := p.Text()
	for _, want := range []string{"kubectl-edit", "ann", ".data.log-level", `"info"`, `"trace"`, "Chiara Rossi", "prod/web.yaml", "stays: drift mode report"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page of the drift lacks %q:\n%s", want, text)
		}
	}
	p.Screenshot("drift-decide", true)
	p.Submit("#codify")
	if text := p.Text(); !strings.Contains(text, `+data: {log-level: trace}`) && !strings.Contains(text, "trace") {
		t.Errorf("no patch:\n%s", text)
	}
	p.Screenshot("codify", true)
	b.proposesABranch(t, p)
	p.Type(`form[action="/do/accept"] input[name=reason]`, "looked into by ann")
	p.Submit("#accept")
	if text := p.Text(); !strings.Contains(text, "Accepted for 24h.") || !strings.Contains(text, "looked into by ann") {
		t.Errorf("after accepting:\n%s", text)
	}
	p.Submit("#revert")
	b.expectValue(b.ns, "settings", "log-level", "info")
	p.Until("the drift has ended", `document.body.innerText.includes("corrected")`)
	fine(t, p)
	actions, err := b.client.Actions(t.Context(), api.RunsQuery{Environment: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"accept", "revert", "codify"} {
		if !slices.ContainsFunc(actions.Actions, func(a ledger.Action) bool { return a.Verb == verb && a.Actor == "operator" }) {
			t.Errorf("%s is not on record as the operator's: %+v", verb, actions.Actions)
		}
	}
}

// looks are the ways in which each page is looked at: by what it is called in the
// pictures.
var looks = []struct {
	name  string
	view  browser.View
	scope browser.Scope
}{
	{"light", browser.View{Width: 1280, Height: 900}, browser.Whole},
	{"dark", browser.View{Width: 1280, Height: 900, Dark: true}, browser.Contrast},
	{"phone", browser.View{Width: 390, Height: 844}, browser.AllButColor},
}

// addresses are of every page.
func (b *board) addresses(t *testing.T) map[string]string {
	t.Helper()
	report, err := b.client.Drift(t.Context(), api.DriftQuery{Environment: "prod", Open: true})
	if err != nil || len(report.Episodes) == 0 {
		t.Fatalf("no drift: %v", err)
	}
	last := func(name string) string {
		status, err := b.client.Environment(t.Context(), name)
		if err != nil || status.LastRun == nil {
			t.Fatalf("no run of %s: %v", name, err)
		}
		return status.LastRun.ID
	}
	i := slices.IndexFunc(report.Episodes, func(e drift.Episode) bool { return e.Object.Kind == "Deployment" })
	return map[string]string{
		"overview": "/", "overview-grouped": "/?group=label:team", "environment": "/environments/prod", "objects": "/environments/prod/objects",
		"tree": b.treeAddress(), "plan": "/environments/planned/plan", "environment-history": "/environments/prod/history", "held": "/environments/batch", "failed": "/environments/broken",
		"drift": "/drift", "drift-ended": "/drift?state=all&since=7d", "episode": "/drift/" + report.Episodes[max(i, 0)].ID, "run": "/runs/" + last("staging"), "run-failed": "/runs/" + last("broken"),
		"history": "/history", "history-drift": "/history?kind=drift", "history-actions": "/history?kind=actions", "sources": "/sources", "targets": "/targets", "health": "/health",
		"unknown": "/environments/none", "login": "/login",
	}
}

// showsPages looks at every page in light and dark, at a desk and on a phone, in
// two tabs at the same time.
func (b *board) showsPages(t *testing.T) {
	addresses := b.addresses(t)
	names := slices.Sorted(maps.Keys(addresses))
	t.Run("looks", func(t *testing.T) {
		for tab := range 2 {
			t.Run(fmt.Sprint("tab ", tab), func(t *testing.T) {
				t.Parallel()
				p := b.open(t, operatorToken, browser.View{})
				for i := tab; i < len(names); i += 2 {
					b.looksAt(t, p, names[i], addresses[names[i]])
				}
			})
		}
	})
	p := b.open(t, operatorToken, browser.View{})
	p.Look(browser.View{Width: 1440, Height: 930})
	p.Go(b.address + "/")
	p.Until("it is live", `document.getElementById("live").innerText === "live"`)
	p.Screenshot("dashboard", false)
	p.Look(browser.View{Width: 1280, Height: 830})
	p.Go(b.address + addresses["episode"])
	p.Until("it is live", `document.getElementById("live").innerText === "live"`)
	p.Screenshot("drift", false)
}

// looksAt looks at one page in every way.
func (b *board) looksAt(t *testing.T, p *browser.Page, name, address string) {
	p.Look(looks[0].view)
	p.Go(b.address + address)
	p.Until("the page has its parts", `document.querySelector("h1, h2") !== null && document.documentElement.classList.contains("js")`)
	p.Until("charts are drawn", `document.getElementById("charts") === null || document.querySelectorAll("#charts canvas").length === 3`)
	if name != "unknown" { // whose status the browser complains of
		fine(t, p)
	}
	if strings.Contains(browser.Eval[string](p, `document.documentElement.outerHTML`), "planted-sentinel") {
		t.Errorf("%s shows a secret", name)
	}
	for _, look := range looks {
		p.Look(look.view)
		for _, f := range p.Audit(look.scope) {
			t.Errorf("%s, %s: %s", name, look.name, f)
		}
		fits(t, p, name+", "+look.name, look.view.Width)
		p.Screenshot(name+"-"+look.name, true)
	}
	p.Look(browser.View{Width: 360, Height: 740})
	fits(t, p, name+", small phone", 360)
	p.Complaints() // those of the audit
}

// drifting makes drift that stays.
func (b *board) drifting(t *testing.T) {
	t.Helper()
	deployments := cms
	deployments.Group, deployments.Resource = "apps", "deployments"
	patch := `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"registry.example.com/web:1.8.3-hotfix"}]}}}}`
	if _, err := b.objects.Resource(deployments).Namespace(b.ns).Patch(context.Background(), "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	b.edit(b.ns, "settings", `{"data":{"log-level":"debug"}}`)
	b.expectDrift("prod", "Deployment/"+b.ns+"/web.spec")
	b.expectDrift("prod", "ConfigMap/"+b.ns+"/settings.data.log-level")
	b.nameAnn(b.ns, "settings")
}
