package server

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// contentPolicy lets the page load its own stylesheet and nothing else: no
// script, whatever a drifted value says.
const contentPolicy = "default-src 'none'; style-src 'self'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// shownEpisodes bounds what the page lists.
const shownEpisodes = 50

// shownChanges bounds the fields that the page lists of one episode.
const shownChanges = 10

//go:embed assets
var assets embed.FS

// pages renders what people look at.
type pages struct {
	templates *template.Template
	css       []byte
	cssID     string
}

func newPages() *pages {
	css, err := assets.ReadFile("assets/page.css")
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(css)
	p := &pages{css: css, cssID: hex.EncodeToString(sum[:4])}
	p.templates = template.Must(template.New("").Funcs(template.FuncMap{
		"age": api.Age, "clock": clock, "counts": api.CountsText, "changes": changes, "value": value, "css": func() string { return p.cssID },
	}).ParseFS(assets, "assets/*.html"))
	return p
}

func (p *pages) stylesheet(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=86400") // its address names its content
	w.Write(p.css)                                   // an error means that the caller has gone
}

// view is what a page shows: values only, of one moment.
type view struct {
	Title   string
	Version string
	Now     time.Time
	// Environments is all of them, or the one that the page is about.
	Environments []reconciler.Status
	// Sources holds what is wrong with sources, by name.
	Sources  map[string]sources.Problems
	Episodes []drift.Episode
	// More is how many episodes are not shown.
	More   int
	Unsure map[string]string
	Open   int
}

func (s *Server) view(f reconciler.Filter, envs []reconciler.Status) view {
	report := s.opts.Engine.Drift(f)
	v := view{Version: s.opts.Version, Now: s.opts.Now(), Environments: envs, Episodes: report.Episodes, Unsure: report.Unsure}
	for _, e := range report.Episodes {
		if e.Ended.IsZero() {
			v.Open++
		}
	}
	if more := len(v.Episodes) - shownEpisodes; more > 0 {
		v.Episodes, v.More = v.Episodes[:shownEpisodes], more
	}
	return v
}

func (s *Server) overviewPage(w http.ResponseWriter, r *http.Request) {
	envs := s.opts.Engine.Environments()
	v := s.view(reconciler.Filter{}, envs)
	v.Title, v.Sources = overviewTitle(envs), s.opts.Engine.SourceProblems()
	s.render(w, "overview.html", v)
}

func (s *Server) environmentPage(w http.ResponseWriter, r *http.Request) {
	status, ok := s.opts.Engine.Environment(r.PathValue("name"))
	if !ok {
		s.unknown(w, r, r.PathValue("name"))
		return
	}
	v := s.view(reconciler.Filter{Environment: status.Name}, []reconciler.Status{status})
	v.Title = fmt.Sprintf("%s: %s", status.Name, status.Sync)
	s.render(w, "environment.html", v)
}

// render fills a buffer first, so that a failure is no half page.
func (s *Server) render(w http.ResponseWriter, name string, v view) {
	var b bytes.Buffer
	if err := s.page.templates.ExecuteTemplate(&b, name, v); err != nil {
		panic(err) // recovered answers; a test renders every branch
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes()) // an error means that the caller has gone
}

// overviewTitle says in a browser's tab whether a look is worth it.
func overviewTitle(envs []reconciler.Status) string {
	count := map[reconciler.Sync]int{}
	for _, e := range envs {
		count[e.Sync]++
	}
	var parts []string
	for _, word := range []reconciler.Sync{
		reconciler.SyncFailed, reconciler.SyncStale, reconciler.SyncDrifted, reconciler.SyncChanges,
		reconciler.SyncRemoved, reconciler.SyncVerifying, reconciler.SyncPending,
	} {
		if n := count[word]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	switch {
	case len(envs) == 0:
		return "no environments yet"
	case len(parts) == 0:
		return fmt.Sprintf("%d clean", len(envs))
	}
	return strings.Join(parts, ", ")
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// changes is the first fields of an episode.
func changes(e drift.Episode) []drift.Change {
	return e.Changes[:min(len(e.Changes), shownChanges)]
}

// maxShown bounds the characters that the page shows of a value.
const maxShown = 200

// value is a value as text, which masks what is sensitive, cut to what fits.
func value(v drift.Value) string {
	text := []rune(v.String())
	if len(text) > maxShown {
		return string(text[:maxShown]) + "…"
	}
	return string(text)
}
