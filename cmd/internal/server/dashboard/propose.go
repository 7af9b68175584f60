package dashboard

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// proposing is what the form says by which a patch becomes a branch.
type proposing struct {
	// Allowed is the pattern of the branches that may be pushed, Branch a name that
	// fits it, and Reason what was typed.
	Allowed, Branch, Reason string
	// Refused is why the last try failed.
	Refused *problem
}

// mayPropose is how the patch of a drift may be pushed: by who may change the
// environment, where its source takes branches at all.
func (d *Dashboard) mayPropose(r *http.Request, b episodeBody) *proposing {
	if !b.May || b.Source == "" {
		return nil
	}
	source, problem := get[api.Source](d, r, api.PathSources+"/"+url.PathEscape(b.Source))
	if problem != nil || source.Push == "" {
		return nil
	}
	return &proposing{Allowed: source.Push, Branch: branchFor(source.Push, b)}
}

// propose pushes the patch as a new branch, and says where it is. What was typed
// stays where that fails.
func (d *Dashboard) propose(w http.ResponseWriter, r *http.Request) {
	b, ok := d.episodeOf(w, r)
	if !ok {
		return
	}
	req := api.ProposeRequest{
		Object: &b.Object, Field: r.PostFormValue("field"),
		Branch: strings.TrimSpace(r.PostFormValue("branch")), Reason: strings.TrimSpace(r.PostFormValue("reason")),
	}
	var pushed api.Proposal
	refused := d.call(r, http.MethodPost, about(b.Environment, "/drift/propose"), req, &pushed)
	if refused == nil {
		b.Pushed, b.Patch = &pushed, &pushed.Patch
		d.showEpisode(w, r, b)
		return
	}
	if d.findPatch(r, &b); b.Proposing != nil {
		b.Proposing.Branch, b.Proposing.Reason, b.Proposing.Refused = req.Branch, req.Reason, refused
	} else if b.Refused == nil {
		b.Refused = refused
	}
	d.showEpisode(w, r, b)
}

// branchFor is a name of a new branch that a pattern allows, made of the
// environment and the object; empty where a person has to find one.
func branchFor(pattern string, b episodeBody) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(b.Environment+"-"+b.Object.Name+"-"+lastOf(b.ID, 6)))
	branch := strings.Replace(pattern, "*", strings.Trim(cut(name, 100), "-"), 1)
	if ok, err := path.Match(pattern, branch); err != nil || !ok || strings.ContainsAny(branch, `*?[\`) {
		return ""
	}
	return branch
}

// lastOf is the end of a text, of at most n bytes.
func lastOf(text string, n int) string { return text[max(0, len(text)-n):] }
