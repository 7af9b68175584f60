package repotest

import (
	"fmt"
	"strings"
)

// heavy are the modules that the sandbox is made of and the daemon must not be.
var heavy = []string{"k8s.io/kubernetes", "go.etcd.io/etcd"}

// pinned is a requirement that must not move by itself, with a reason beside it.
var pinned = struct{ module, version string }{"sigs.k8s.io/kustomize/api", "v0.21.1"}

// requirement is one line of a go.mod's require or replace blocks.
type requirement struct {
	module, version string
	line            int
	// comment is what stands above it or behind it.
	comment string
}

// Requirements finds what the daemon's go.mod must not require, and a pin that
// moved or lost its reason.
func Requirements(t Tree) []string {
	var out []string
	found := false
	for _, r := range requirements(string(t.text("go.mod"))) {
		for _, h := range heavy {
			if within(r.module, h) {
				out = append(out, fmt.Sprintf("go.mod:%d: requires %s, which belongs to the sandbox alone", r.line, r.module))
			}
		}
		if r.module != pinned.module {
			continue
		}
		found = true
		if r.version != pinned.version {
			out = append(out, fmt.Sprintf("go.mod:%d: %s must stay at %s, and is %s", r.line, r.module, pinned.version, r.version))
		}
		if len(r.comment) < 20 {
			out = append(out, fmt.Sprintf("go.mod:%d: a comment must say why %s is pinned", r.line, r.module))
		}
	}
	if !found {
		out = append(out, "go.mod: does not require "+pinned.module)
	}
	return out
}

// requirements reads a go.mod as far as it is needed here: one module a line,
// within a block or not.
func requirements(text string) []requirement {
	var out []requirement
	above := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if comment, ok := strings.CutPrefix(line, "//"); ok {
			above += comment
			continue
		}
		code, behind, _ := strings.Cut(line, "//")
		words := strings.Fields(code)
		if len(words) > 0 && (words[0] == "require" || words[0] == "replace") {
			words = words[1:]
		}
		if len(words) >= 2 && strings.Contains(words[0], ".") {
			behind = strings.TrimPrefix(strings.TrimSpace(behind), "indirect")
			out = append(out, requirement{words[0], words[1], i + 1, strings.TrimSpace(above + behind)})
		}
		above = ""
	}
	return out
}

// modulePath is the path that a go.mod gives its module.
func modulePath(gomod []byte) string {
	for line := range strings.Lines(string(gomod)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
