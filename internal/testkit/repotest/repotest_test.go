package repotest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// checks are all checks by the name of what they find.
var checks = map[string]func(Tree) []string{
	"arrows": Arrows, "cluster libraries": ClusterLibraries, "requirements": Requirements,
	"package comments": PackageComments, "undocumented": Undocumented,
	"long files": LongFiles, "unformatted": Unformatted, "sleeps": Sleeps,
	"leftovers": Leftovers, "license": License, "links": Links, "metrics": Metrics,
}

func TestSourceTree(t *testing.T) {
	tree, err := Load(os.DirFS("../../.."))
	if err != nil {
		t.Fatal(err)
	}
	if tree.Module == "" || len(tree.Go) < 10 {
		t.Fatalf("this is not the tree: module %q with %d files", tree.Module, len(tree.Go))
	}
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			for _, finding := range check(tree) {
				t.Error(finding)
			}
		})
	}
}

// good is a small tree that is as it should be.
func good() fstest.MapFS {
	return fstest.MapFS{
		"LICENSE": file("Apache License\n"),
		"go.mod": file("module example.org/m\n\nrequire (\n\t// A newer one changes fields that are immutable.\n" +
			"\tsigs.k8s.io/kustomize/api v0.21.1\n\tk8s.io/client-go v0.37.2 // indirect\n)\n"),
		"cmd/m/main.go":           file("// Command m does nothing.\npackage main\n\nfunc main() {}\n"),
		"reconciler/doc.go":       file("// Package reconciler decides.\npackage reconciler\n\nimport _ \"example.org/m/drift\"\n"),
		"reconciler/kube/kube.go": file("// Package kube writes.\npackage kube\n\nimport _ \"k8s.io/client-go/rest\"\n"),
		"drift/drift.go":          file("// Package drift is a model.\npackage drift\n\n// Class is one.\ntype Class string\n"),
		"sources/sources.go":      file("// Package sources holds values.\npackage sources\n\n// The kinds.\nconst (\n\tA = 1\n\tB = 2\n)\n"),
		"examples/x/go.mod":       file("module example.org/m/examples/x\n\nrequire k8s.io/kubernetes v1.37.2\n"),
		"examples/x/main.go":      file("// Command x is an example.\npackage main\n\nimport _ \"k8s.io/kubernetes/cmd\"\n\nfunc main() {}\n"),
		"internal/testkit/kube/kube.go": file("// Package kube starts a server.\npackage kube\n\n" +
			"import _ \"k8s.io/client-go/rest\"\n"),
	}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func load(t *testing.T, fsys fstest.MapFS) Tree {
	t.Helper()
	tree, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestChecksPassAGoodTree(t *testing.T) {
	tree := load(t, good())
	for name, check := range checks {
		if found := check(tree); len(found) > 0 {
			t.Errorf("%s: %q", name, found)
		}
	}
}

// TestChecksFail changes one file of the good tree at a time; the check must find
// it, and say where.
func TestChecksFail(t *testing.T) {
	const header = "// Package p is here.\npackage p\n\n"
	cases := []struct {
		check, path, text, want string
	}{
		{"arrows", "sources/render/r.go", header + `import _ "example.org/m/drift"`, "sources/render/r.go:4: sources/render imports drift: the arrows go"},
		{"arrows", "drift/d.go", header + `import _ "example.org/m/reconciler"`, "the arrows go"},
		{"arrows", "reconciler/r.go", header + `import _ "example.org/m/cmd/internal/config"`, "the arrows go"},
		{"arrows", "sources/s_test.go", header + `import _ "example.org/m/reconciler"`, "the arrows go"},
		{"arrows", "reconciler/r.go", header + `import _ "example.org/m/reconciler/kube"`, "no subpackage"},
		{"arrows", "drift/d.go", header + `import _ "example.org/m/drift/kubelive"`, "no subpackage"},
		{"arrows", "internal/redact/r.go", header + `import _ "example.org/m/drift"`, "knows none of them"},
		{"arrows", "drift/d.go", header + `import _ "example.org/m/internal/testkit/kube"`, "for tests"},
		{"arrows", "cmd/m/m.go", header + `import _ "example.org/m/examples/y"`, "no library"},
		{"cluster libraries", "drift/d.go", header + `import _ "k8s.io/apimachinery/pkg/types"`, "drift/d.go:4"},
		{"cluster libraries", "sources/environment/e.go", header + `import _ "sigs.k8s.io/yaml"`, "only a driver"},
		{"cluster libraries", "reconciler/r.go", header + `import _ "github.com/fluxcd/pkg/ssa"`, "only a driver"},
		{"cluster libraries", "cmd/internal/cli/c.go", header + `import _ "k8s.io/client-go/rest"`, "only a driver"},
		{"requirements", "go.mod", "module example.org/m\n\nrequire k8s.io/kubernetes v1.37.2\n", "go.mod:3: requires k8s.io/kubernetes"},
		{"requirements", "go.mod", "module example.org/m\n\nrequire (\n\tgo.etcd.io/etcd/server/v3 v3.6.8 // indirect\n)\n", "go.etcd.io/etcd"},
		{"requirements", "go.mod", "module example.org/m\n\nrequire k8s.io/api v0.37.2\n", "does not require"},
		{"requirements", "go.mod", "module example.org/m\n\n// It is pinned for a reason.\nrequire sigs.k8s.io/kustomize/api v0.21.2\n", "must stay at v0.21.1"},
		{"requirements", "go.mod", "module example.org/m\n\nrequire sigs.k8s.io/kustomize/api v0.21.1 // indirect\n", "must say why"},
		{"package comments", "drift/cause/c.go", "package cause\n", "drift/cause: package cause"},
		{"package comments", "drift/cause/c.go", "// Something else.\npackage cause\n", "drift/cause: package cause"},
		{"package comments", "examples/x/y/y.go", "package y\n", "examples/x/y: package y"},
		{"package comments", "cmd/n/main.go", "package main\n", "cmd/n: package main"},
		{"undocumented", "drift/d.go", header + "func Bad() {}\n", "drift/d.go:4: Bad"},
		{"undocumented", "drift/d.go", header + "type Bad int\n", "Bad"},
		{"undocumented", "drift/d.go", header + "const Bad = 1\n", "Bad"},
		{"undocumented", "drift/d.go", header + "// Group.\ntype (\n\tBad int\n)\n", "Bad"},
		{"undocumented", "drift/d.go", header + "// T is.\ntype T[E any] int\n\nfunc (t *T[E]) Bad() {}\n", "Bad"},
		{"long files", "drift/d.go", header + strings.Repeat("\n", maxLines), "drift/d.go: has 453 lines"},
		{"unformatted", "drift/d.go", header + "func  x() {}\n", "drift/d.go"},
		{"sleeps", "drift/d_test.go", header + "func x() { time.Sleep(1) }\n", "drift/d_test.go:4"},
		{"leftovers", "drift/d.go", header + "// TO" + "DO: later\n", "drift/d.go:4: says TO" + "DO"},
		{"leftovers", "Makefile", "# FIX" + "ME\n", "Makefile:1"},
		{"leftovers", "docs/a.md", "Look at /wo" + "rk/main.\n", "docs/a.md:1: names a path"},
		{"leftovers", "run.sh", "cache=/ro" + "ot/.cache\n", "run.sh:1: names a path"},
		{"leftovers", "run.sh", "\"/ho" + "me/somebody\"\n", "run.sh:1: names a path"},
		{"links", "docs/a.md", "See [b](b.md).\n", "docs/a.md: link to b.md: there is no such file"},
		{"links", "docs/a.md", "# A thing\n\nSee [it](#a-think).\n", "no such heading"},
		{"metrics", "docs/metrics.md", "`holdfast_x`\n", "describes holdfast_x"},
		{"metrics", "cmd/internal/daemon/metrics.go", header + "const x = \"holdfast_x\"\n", "does not describe holdfast_x"},
		{"license", "LICENSE", "All rights reserved.\n", "LICENSE"},
	}
	for _, c := range cases {
		fsys := good()
		fsys[c.path] = file(c.text)
		found := checks[c.check](load(t, fsys))
		if len(found) == 0 || !strings.Contains(strings.Join(found, "\n"), c.want) {
			t.Errorf("%s of %s with %q: want a finding with %q, got %q", c.check, c.path, c.text, c.want, found)
		}
	}
}

// TestChecksAllow holds what looks like a finding and is none.
func TestChecksAllow(t *testing.T) {
	const header = "// Package p is here.\npackage p\n\n"
	cases := []struct{ check, path, text string }{
		{"arrows", "drift/d_test.go", header + `import _ "example.org/m/internal/testkit/kube"`},
		{"arrows", "drift/d_test.go", "package p_test\n\n" + `import _ "example.org/m/reconciler"`},
		{"arrows", "internal/testkit/kube/k.go", header + `import _ "example.org/m/reconciler"`},
		{"cluster libraries", "cmd/internal/cli/log.go", header + `import _ "k8s.io/klog/v2"`},
		{"cluster libraries", "drift/d_test.go", header + `import _ "k8s.io/client-go/rest"`},
		{"undocumented", "drift/d.go", header + "type t int\n\nfunc (t) String() string { return \"\" }\n"},
		{"long files", "drift/d_test.go", header + strings.Repeat("\n", maxLines)},
		{"sleeps", "drift/d_test.go", header + "import \"testing/synctest\"\n\nfunc x() { time.Sleep(1) }\n"},
		{"sleeps", "drift/d.go", header + "func x() { time.Sleep(1) }\n"},
		{"leftovers", "docs/a.md", "See https://example.org/work/items and $HOME/work/x.\n"},
		{"leftovers", "drift/d_test.go", header + "const home = \"/ho" + "me/ann/x\"\n"},
		{"links", "docs/a.md", "# What, now?\n\nSee [it](#what-now), [it](../LICENSE), [it](https://x/y) and ![a](b.png).\n"},
		{"unformatted", "drift/testdata/d.go", "package   d\n"},
	}
	for _, c := range cases {
		fsys := good()
		fsys[c.path] = file(c.text)
		if found := checks[c.check](load(t, fsys)); len(found) > 0 {
			t.Errorf("%s of %s: %q", c.check, c.path, found)
		}
	}
}
