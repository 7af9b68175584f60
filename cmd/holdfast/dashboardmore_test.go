package main

import (
	"fmt"
	"net/http"
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

// readsWithoutScript: all can be read, and forms work.
func (b *board) readsWithoutScript(t *testing.T) {
	p := b.open(t, operatorToken, browser.View{NoScript: true})
	for _, page := range []struct{ address, want string }{
		{"/", "drifted"}, {"/environments/prod", "kubectl-edit"}, {"/environments/broken", "broken/config.yaml"}, {"/drift", "1.8.3-hotfix"},
		{"/sources", b.repo.URL}, {"/history", "applied"}, {"/targets", "default"}, {"/health", "Ledger"}, {b.treeAddress(), "ReplicaSet/"}, {"/environments/planned/plan", "create"},
	} {
		p.Go(b.address + page.address)
		if text := p.Text(); !strings.Contains(text, page.want) {
			t.Errorf("without script %s does not show %q:\n%s", page.address, page.want, text)
		}
	}
	p.Go(b.address + "/environments/search")
	p.Submit("#resync")
	if text := p.Text(); !strings.Contains(text, "A run was asked for.") {
		t.Errorf("a form without script:\n%s", text)
	}
	fine(t, p)
}

// filters: what is typed chooses, and the address says so.
func (b *board) filters(t *testing.T) {
	p := b.open(t, readerToken, browser.View{})
	p.Go(b.address + "/")
	p.Until("all are there", `document.querySelectorAll("tr[id^=env-]").length === 6`)
	p.Type("#filter-text", "checkout")
	p.Until("some are there", `document.querySelectorAll("tr[id^=env-]").length === 2 && location.search === "?q=checkout"`)
	if !browser.Eval[bool](p, `document.activeElement.id === "filter-text" && document.activeElement.value === "checkout"`) {
		t.Error("the field lost its focus or its text")
	}
	p.Go(b.address + "/?state=failed&group=source")
	p.Until("one is there", `document.querySelectorAll("tr[id^=env-]").length === 1 && document.querySelector("h2.group") !== null`)
	fine(t, p)
}

// showsReadersNoButtons: who may not change anything sees no form that would.
func (b *board) showsReadersNoButtons(t *testing.T) {
	stranger := b.browser.Open(t, browser.View{})
	for _, p := range []*browser.Page{stranger, b.open(t, readerToken, browser.View{})} {
		for _, address := range []string{"/", "/environments/prod", "/environments/batch", "/drift"} {
			p.Go(b.address + address)
			if browser.Eval[bool](p, `document.querySelector("form[action^='/do/']") !== null`) {
				t.Errorf("%s has buttons for a reader", address)
			}
		}
		fine(t, p)
	}
	if !browser.Eval[bool](stranger, `document.querySelector("a[href^='/login']") !== null`) {
		t.Error("a stranger is not asked to sign in")
	}
	res, err := http.Post(b.address+"/do/resync", "application/x-www-form-urlencoded", strings.NewReader("environment=prod"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a form of a stranger: %s", res.Status)
	}
}

// tooWide lists what is wider than a window: the page, what scrolls sideways by
// itself on a phone (but patches, whose lines stay as they are), and menus that
// reach out of it, with all that can be opened open. Where a phone is too narrow
// for a page it zooms out, which makes its window wider, so the width is given.
const tooWide = `(width => {
	const wide = [], named = e => e.tagName.toLowerCase() + (e.id && "#" + e.id) + (e.className && "." + e.className);
	const shut = [...document.querySelectorAll("details:not(.menu):not([open])")];
	shut.forEach(d => { d.open = true; });
	const page = document.documentElement.scrollWidth;
	if (page > width) wide.push("the page is " + page + " wide");
	if (width < 600) for (const e of document.querySelectorAll("body *:not(pre)")) {
		if (["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1)
			wide.push(named(e) + " scrolls, " + e.scrollWidth + " in " + e.clientWidth);
	}
	for (const menu of document.querySelectorAll("details.menu")) {
		menu.open = true;
		const box = menu.lastElementChild.getBoundingClientRect();
		if (box.left < 0 || box.right > width) wide.push(named(menu) + " reaches from " + box.left + " to " + box.right);
		menu.open = false;
	}
	shut.forEach(d => { d.open = false; });
	return wide;
})`

// fits fails the test for what does not fit into a window of a width.
func fits(t *testing.T, p *browser.Page, what string, width int64) {
	t.Helper()
	for _, wide := range browser.Eval[[]string](p, fmt.Sprintf("%s(%d)", tooWide, width)) {
		t.Errorf("%s: %s, and the window %d", what, wide, width)
	}
}
