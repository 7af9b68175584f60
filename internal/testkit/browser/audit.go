package browser

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed axe.min.js
var axe string

// Fault is something that keeps people from using a page.
type Fault struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// String names it, and the first elements that have it.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s", f.ID, f.Impact, f.Help)
	for i, n := range f.Nodes {
		if i == 3 {
			fmt.Fprintf(&b, "\n  and %d more", len(f.Nodes)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %.200s\n    %s", n.HTML, strings.ReplaceAll(n.Summary, "\n", "\n    "))
	}
	return b.String()
}

// Scope is what an audit looks for.
type Scope string

// The scopes: of a page that was looked at as a whole, another theme changes only
// the contrast, and another width all but the contrast.
const (
	Whole       Scope = ""
	Contrast    Scope = ", runOnly: {type: 'rule', values: ['color-contrast']}"
	AllButColor Scope = ", rules: {'color-contrast': {enabled: false}}"
)

// Audit finds the faults of the page that are serious or critical.
func (p *Page) Audit(s Scope) []Fault {
	p.t.Helper()
	if !Eval[bool](p, "typeof axe !== 'undefined'") {
		Eval[bool](p, axe+"; true")
	}
	return Eval[[]Fault](p, `axe.run(document, {resultTypes: ['violations'], preload: false`+string(s)+`})
		.then(r => r.violations.filter(v => v.impact === 'serious' || v.impact === 'critical')
			.map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => ({html: n.html, failureSummary: n.failureSummary}))})))`)
}
