// Package dashboard is what people see of the daemon in a browser: pages that are
// rendered here and can be read without any script, and forms that ask the API.
//
// It decides nothing and keeps nothing. What a page shows is what the engine says
// or what the API answers, so that its JSON twin says the same; a form becomes a
// call of the API on behalf of who sent it. Every text from repositories, clusters
// and people goes through html/template.
package dashboard

import (
	"bytes"
	"compress/gzip"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Engine is what the pages ask directly, since they ask it often.
type Engine interface {
	Environments() []reconciler.Status
	Environment(name string) (reconciler.Status, bool)
	SourceProblems() map[string]sources.Problems
	Drift(f reconciler.Filter) reconciler.Report
}

// Viewer is who looks at a page.
type Viewer struct {
	// Name is empty for somebody who is not known.
	Name string
	// Role is told beside the name.
	Role string
	// SignIn is where one may sign in, SignOut where a form signs out; empty where
	// there is no such thing.
	SignIn, SignOut string
	// Sees reports whether the viewer may know of an environment; nil is of all.
	Sees func(environment string) bool
	// May reports whether the viewer may change an environment, MayAll whether what
	// belongs to no environment. Nil is no.
	May    func(environment string) bool
	MayAll bool
}

// sees is Sees, nil or not.
func (v Viewer) sees(environment string) bool { return v.Sees == nil || v.Sees(environment) }

// may is May, nil or not.
func (v Viewer) may(environment string) bool { return v.May != nil && v.May(environment) }

// Options are what a dashboard needs.
type Options struct {
	Engine Engine
	// API answers the calls that pages and forms make on behalf of the viewer. Who
	// that is goes along in the request's context.
	API http.Handler
	// Viewer says who sends a request.
	Viewer func(r *http.Request) Viewer
	// Links leads to web pages of repositories; nil knows none.
	Links Links
	// Version is shown at the foot of each page.
	Version string
	// Now is the clock.
	Now func() time.Time
}

// Links finds the web pages of what a source holds. An empty answer means that
// there is no such page, or that nobody knows it.
type Links interface {
	Commit(source, id string) string
	File(source, id, path string, line int) string
	Compare(source, from, to string) string
}

// Dashboard answers for the pages. Create it with New.
type Dashboard struct {
	opts Options
	// Both are made when somebody first asks for them: a daemon whose dashboard nobody
	// opens does not keep them, and they are the same each time.
	templates func() *template.Template
	files     func() map[string]asset
}

// New makes a dashboard.
func New(o Options) *Dashboard {
	d := &Dashboard{opts: o, files: sync.OnceValue(readAssets)}
	d.templates = sync.OnceValue(func() *template.Template {
		return template.Must(template.New("").Funcs(d.functions()).ParseFS(embedded, "templates/*.html"))
	})
	return d
}

// Register adds the pages to the routes.
func (d *Dashboard) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", d.overview)
	mux.HandleFunc("GET /environments/{name}", d.environment)
	mux.HandleFunc("GET /environments/{name}/objects", d.objects)
	mux.HandleFunc("GET /environments/{name}/objects/tree", d.tree)
	mux.HandleFunc("GET /environments/{name}/plan", d.plan)
	mux.HandleFunc("GET /environments/{name}/history", d.environmentHistory)
	mux.HandleFunc("GET /drift", d.drift)
	mux.HandleFunc("GET /drift/{id}", d.episode)
	mux.HandleFunc("POST /drift/{id}/codify", d.codify)
	mux.HandleFunc("POST /drift/{id}/propose", d.propose)
	mux.HandleFunc("GET /runs/{id}", d.run)
	mux.HandleFunc("GET /history", d.history)
	mux.HandleFunc("GET /sources", d.sources)
	mux.HandleFunc("GET /targets", d.targets)
	mux.HandleFunc("GET /health", d.health)
	mux.HandleFunc("POST /do/{verb}", d.do)
	mux.HandleFunc("GET /series", d.series)
	mux.HandleFunc("GET /assets/{name}", d.asset)
}

// IsForm reports whether a path takes forms: who may send one depends on what it
// asks for, and the API decides.
func IsForm(path string) bool {
	return strings.HasPrefix(path, "/do/") || strings.HasPrefix(path, "/drift/") && (strings.HasSuffix(path, "/codify") || strings.HasSuffix(path, "/propose"))
}

// contentPolicy lets a page load and call what is ours and nothing else, and run
// no script and no style that stands in it, whatever a drifted value says.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// page is what all templates get.
type page struct {
	// Title is told in the browser's tab, Nav is the part of the dashboard that the
	// page belongs to.
	Title, Nav string
	// Twin is where the same is served as JSON.
	Twin string
	// Here is the page's own address, to come back to.
	Here string
	// Path is that without the query.
	Path    string
	Theme   string
	Viewer  Viewer
	Version string
	Now     time.Time
	Flash   *flash
	// Refresh is how often the page reloads where scripts do not run, in seconds;
	// 0 is never.
	Refresh int
	// Body is what the page's own template shows.
	Body any
}

func (d *Dashboard) newPage(r *http.Request, nav, title, twin string, body any) page {
	here := r.URL.Path
	if r.URL.RawQuery != "" {
		here += "?" + r.URL.RawQuery
	}
	p := page{
		Title: title, Nav: nav, Twin: twin, Here: here, Path: r.URL.Path, Viewer: d.opts.Viewer(r), Version: d.opts.Version, Now: d.opts.Now(), Body: body, Refresh: 10,
	}
	if c, err := r.Cookie("holdfast_theme"); err == nil && (c.Value == "dark" || c.Value == "light") {
		p.Theme = c.Value
	}
	return p
}

// show renders a page into a buffer first, so that a failure is no half page.
func (d *Dashboard) show(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	p.Flash = takeFlash(w, r)
	var b bytes.Buffer
	if err := d.templates().ExecuteTemplate(&b, name, p); err != nil {
		panic(err) // the server answers for panics; tests render every branch
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", contentPolicy)
	if p.Twin != "" {
		h.Set("Link", "<"+p.Twin+`>; rel="alternate"; type="application/json"`)
	}
	send(w, r, status, b.Bytes())
}

// worthPacking is how large a page is that is sent compressed.
const worthPacking = 4 << 10

// send sends a page, compressed where the browser takes that: the same words come
// back in every row. No page holds a secret beside what a stranger can make it say.
func send(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if len(body) < worthPacking || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.WriteHeader(status)
		w.Write(body) // an error means that the caller has gone
		return
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	packed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one there is
	}
	packed.Write(body) // an error means that the caller has gone, as does that of Close
	packed.Close()
}

// failed is a page that says why there is none.
func (d *Dashboard) failed(w http.ResponseWriter, r *http.Request, nav string, problem problem) {
	p := d.newPage(r, nav, problem.title(), "", problem)
	p.Refresh = 0
	d.show(w, r, problem.Status, "failed", p)
}

// unknownEnvironment answers for an environment that there is not.
func (d *Dashboard) unknownEnvironment(w http.ResponseWriter, r *http.Request, name string) {
	d.failed(w, r, "environments", problem{
		Status: http.StatusNotFound, Detail: "there is no environment " + quoted(name),
		Hint: "it may have left git, or its source cannot be read",
	})
}

func quoted(name string) string { return "“" + cut(name, 80) + "”" }

// twin is an address of the API, with a query where there is one.
func twin(path string, query url.Values) string {
	if len(query) == 0 {
		return path
	}
	return path + "?" + query.Encode()
}

// about is the path of the API for an environment.
func about(name string, more ...string) string {
	return "/api/v1/environments/" + url.PathEscape(name) + strings.Join(more, "")
}

// environments are those that the viewer may know of.
func (d *Dashboard) environments(v Viewer) []reconciler.Status {
	all := d.opts.Engine.Environments()
	return slices.DeleteFunc(slices.Clone(all), func(s reconciler.Status) bool { return !v.sees(s.Name) })
}

// open is the drift that goes on, of what the viewer may know of.
func (d *Dashboard) open(v Viewer, environment string) []drift.Episode {
	report := d.opts.Engine.Drift(reconciler.Filter{Environment: environment, OpenOnly: true})
	return slices.DeleteFunc(slices.Clone(report.Episodes), func(e drift.Episode) bool { return !e.Ended.IsZero() || !v.sees(e.Environment) })
}
