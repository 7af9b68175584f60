package environment

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// relate looks at what the specs of one repository say of each other. What they
// name elsewhere, only the daemon knows.
func relate(all []*resolved) {
	byName := map[string]*resolved{}
	for _, x := range all {
		if x.spec.Name != "" && x.doc.kind == Kind {
			byName[x.spec.Name] = x
		}
	}
	taken := map[string]*resolved{}
	for _, x := range all {
		for i, old := range x.spec.Formerly {
			x.formerly(i, old, byName[old], taken[old])
			if taken[old] == nil {
				taken[old] = x
			}
		}
	}
	for _, x := range all {
		if x.doc.kind != Kind {
			continue
		}
		if trail := circle(x, byName); trail != nil {
			n := x.merged.Get("dependsOn")
			if n == nil {
				n = x.merged.Get("after")
			}
			x.problems = append(x.problems, sources.Problem{
				File: n.File, Line: n.Line, Column: n.Column,
				Message: "environments wait for each other in a circle: " + strings.Join(trail, " → "),
				Hint:    "take one of them out of dependsOn or after",
			})
		}
	}
}

func (x *resolved) formerly(i int, old string, still, other *resolved) {
	n := x.merged.Get("formerly").Values[i]
	p := sources.Problem{File: n.File, Line: n.Line, Column: n.Column}
	switch {
	case old == x.spec.Name || old == "":
		return
	case still != nil:
		p.Message = fmt.Sprintf("spec.formerly[%d] %q is still there, at %s", i, old, still.doc.origin())
		p.Hint = "an environment is renamed when its old name is gone"
	case other != nil && other != x:
		p.Message = fmt.Sprintf("spec.formerly[%d] %q is also claimed by %s", i, old, other.spec.Name)
		p.Hint = "the objects can go to one environment only"
	default:
		return
	}
	x.problems = append(x.problems, p)
}

// waitsFor are the environments that one waits for.
func (x *resolved) waitsFor() []string {
	out := slices.Clone(x.spec.DependsOn)
	if x.spec.After != nil {
		out = append(out, x.spec.After.Environment)
	}
	return slices.DeleteFunc(out, func(name string) bool { return name == x.spec.Name })
}

// circle is the way from an environment back to itself, nil if there is none.
func circle(start *resolved, byName map[string]*resolved) []string {
	seen := map[string]bool{}
	var walk func(x *resolved, trail []string) []string
	walk = func(x *resolved, trail []string) []string {
		for _, name := range x.waitsFor() {
			next := append(slices.Clone(trail), name)
			if name == start.spec.Name {
				return next
			}
			if y := byName[name]; y != nil && !seen[name] {
				seen[name] = true
				if found := walk(y, next); found != nil {
					return found
				}
			}
		}
		return nil
	}
	return walk(start, []string{start.spec.Name})
}
