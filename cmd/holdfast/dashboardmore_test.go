package main

import (
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/browser"
)

// proposesABranch pushes the patch that is shown as a branch, by click: first under
// a name that is not allowed, which loses nothing of what was typed.
func (b *board) proposesABranch(t *testing.T, p *browser.Page) {
	suggested := browser.Eval[string](p, `document.querySelector("#propose input[name=branch]").value`)
	if !strings.HasPrefix(suggested, "holdfast/prod-settings-") {
		t.Errorf("the branch is to be called %q", suggested)
	}
	browser.Eval[bool](p, `document.querySelector("#propose input[name=branch]").value = "elsewhere"; true`)
	p.Type("#propose input[name=reason]", "debugging stays on")
	p.Submit("#push")
	if text := p.Text(); !strings.Contains(text, "holdfast/*") || browser.Eval[string](p, `document.querySelector("#propose input[name=reason]").value`) != "debugging stays on" {
		t.Errorf("a branch that is not allowed:\n%s", text)
	}
	browser.Eval[bool](p, `document.querySelector("#propose input[name=branch]").value = "`+suggested+`"; true`)
	p.Submit("#push")
	p.Until("it is pushed", `document.querySelector("#pushed a[href^='https://git.example.org/team/shop/compare/']") !== null`)
	if file := b.repo.Git(t, "", "show", suggested+":prod/web.yaml"); !strings.Contains(file, "trace") {
		t.Errorf("the branch says:\n%s", file)
	}
	if message := b.repo.Git(t, "", "log", "-1", "--format=%an %B", suggested); !strings.HasPrefix(message, "operator ") || !strings.Contains(message, "debugging stays on") {
		t.Errorf("its commit says:\n%s", message)
	}
	p.Screenshot("propose", true)
}

// treeAddress is the page of a Deployment that has pods.
func (b *board) treeAddress() string {
	return "/environments/staging/objects/tree?object=Deployment/" + b.other + "/web"
}

// showsTrees goes from the list of objects to what belongs to one of them.
func (b *board) showsTrees(t *testing.T) {
	p := b.open(t, readerToken, browser.View{})
	p.Go(b.address + "/environments/staging/objects")
	p.Submit(`#tree-Deployment-apps a[href*="/objects/tree?object=Deployment"]`)
	p.Until("the pods of its ReplicaSet are ready", `document.querySelectorAll("#parts .parts .parts .parts > li .good").length === 2`)
	if text := p.Text(); !strings.Contains(text, "Pod/"+b.other+"/web-") || !strings.Contains(text, "staging/web.yaml") {
		t.Errorf("the page of a Deployment:\n%s", text)
	}
	fine(t, p)
	p.Complaints()
	p.Go(b.address + "/environments/staging/objects/tree?object=Deployment/" + b.ns + "/web")
	if text := p.Text(); !strings.Contains(text, "is no object of staging") {
		t.Errorf("of an object of another environment:\n%s", text)
	}
}
