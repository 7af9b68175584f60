package repotest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// layers are the folders in the order of the arrows: one may import itself and
// what stands after it.
var layers = []string{"cmd", "reconciler", "drift", "sources"}

// neutral are the packages that import nothing below themselves: the model of
// their layer, which the technologies beside it serve.
var neutral = []string{"reconciler", "drift", "sources"}

// clusterLibraries are the beginnings of what only a driver and the reading of
// manifests may know.
var clusterLibraries = []string{"k8s.io/", "sigs.k8s.io/", "github.com/fluxcd/"}

// clusterUsers are the folders that may import any of them. The daemon wires:
// it turns a configuration into a client's.
var clusterUsers = []string{
	"reconciler/kube", "drift/kubelive", "sources/render", "sources/manifest",
	"cmd/internal/daemon", "internal/testkit",
}

// cliUses is what the CLI may import of them: what brings their log lines into
// ours, and the encoder of values that are tagged for JSON into YAML, which knows
// no cluster.
var cliUses = []string{"k8s.io/klog/v2", "sigs.k8s.io/controller-runtime/pkg/log", "sigs.k8s.io/yaml"}

// Arrows finds imports that go against cmd → reconciler → drift → sources,
// imports of the testkit by other than tests, and imports of examples.
func Arrows(t Tree) []string {
	var out []string
	t.imports(func(f GoFile, imported, place string) {
		to, ours := strings.CutPrefix(imported, t.Module+"/")
		if !ours {
			return
		}
		if why := against(f, to); why != "" {
			out = append(out, fmt.Sprintf("%s: %s imports %s: %s", place, f.Dir(), to, why))
		}
	})
	return out
}

// against says why an import of ours may not be.
func against(f GoFile, to string) string {
	from := f.Dir()
	a, b := layerOf(from), layerOf(to)
	switch {
	case within(to, "internal/testkit") && !f.IsTest() && !within(from, "internal/testkit"):
		return "the testkit is for tests"
	case within(to, "examples"):
		return "examples are no library"
	case within(from, "internal/testkit") || f.IsTest() && strings.HasSuffix(f.AST.Name.Name, "_test"):
		return "" // tests from outside look at the whole
	case a >= 0 && b >= 0 && b < a:
		return "the arrows go " + strings.Join(layers, " → ")
	case within(from, "internal") && b >= 0 && b < len(layers)-1:
		return "what all layers may use knows none of them but sources"
	case slices.Contains(neutral, from) && to != from && within(to, from):
		return from + " imports no subpackage of its own"
	}
	return ""
}

// layerOf is the place of a folder in the layers, -1 if it is in none.
func layerOf(dir string) int {
	return slices.IndexFunc(layers, func(l string) bool { return within(dir, l) })
}

// ClusterLibraries finds imports of Kubernetes libraries where they are not to
// be known. Tests may import them.
func ClusterLibraries(t Tree) []string {
	var out []string
	t.imports(func(f GoFile, imported, place string) {
		foreign := slices.ContainsFunc(clusterLibraries, func(p string) bool { return strings.HasPrefix(imported, p) })
		user := slices.ContainsFunc(clusterUsers, func(dir string) bool { return within(f.Dir(), dir) })
		allowed := f.Dir() == "cmd/internal/cli" && slices.Contains(cliUses, imported)
		if foreign && !user && !allowed && !f.IsTest() {
			out = append(out, fmt.Sprintf("%s: %s imports %s: only a driver may know its technology", place, f.Dir(), imported))
		}
	})
	return out
}

// imports visits every import of the module at the root.
func (t Tree) imports(visit func(f GoFile, imported, place string)) {
	for _, f := range t.Go {
		if !t.inRoot(f) {
			continue
		}
		for _, spec := range f.AST.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil { // the parser took it, so this cannot be
				imported = spec.Path.Value
			}
			visit(f, imported, f.at(spec.Pos()))
		}
	}
}
