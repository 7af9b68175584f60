package environment_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

var update = flag.Bool("update", false, "write the answers that the code gives into testdata")

// TestRead compares what is found in each archive of testdata with its file
// "want". The first line of an archive's comment is the pattern; the others ask
// for more: "show NAME", or "branch NAME" for the environments of a branch.
func TestRead(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			input := &txtar.Archive{Comment: archive.Comment}
			for _, f := range archive.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				input.Files = append(input.Files, f)
			}
			got := read(treetest.FromTxtar(input), strings.Split(strings.TrimSpace(string(archive.Comment)), "\n"))
			if *update {
				input.Files = append(input.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(input), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func read(tree sources.Tree, asked []string) string {
	repo, err := environment.Read(tree, asked[0])
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, s := range repo.Specs {
		fmt.Fprintf(&b, "%s\n", different(s))
	}
	for _, t := range repo.Templates {
		fmt.Fprintf(&b, "template %s\n", different(t.Spec))
	}
	for _, x := range repo.Broken {
		fmt.Fprintf(&b, "broken %q at %s:%d\n", x.Name, x.File, x.Line)
		for _, p := range sources.ProblemsOf(x) {
			fmt.Fprintf(&b, "  %s\n", p.Error())
		}
	}
	for _, line := range asked[1:] {
		verb, name, _ := strings.Cut(line, " ")
		switch verb {
		case "show":
			fmt.Fprintf(&b, "\nshow %s\n%s", name, repo.Show(name))
		case "branch":
			fmt.Fprintf(&b, "\nbranch %s\n%s", name, ofBranch(repo, name))
		}
	}
	return b.String()
}

func ofBranch(repo *environment.Repository, branch string) string {
	var b strings.Builder
	for _, t := range repo.Templates {
		if !t.Matches(branch) {
			continue
		}
		spec, err := t.For(branch, "0123456789012345678901234567890123456789")
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
			continue
		}
		fmt.Fprintf(&b, "%s\n", different(spec))
	}
	return b.String()
}

// different is what a spec says that is not the default, as JSON.
func different(s environment.Spec) []byte {
	said, defaults := fieldsOf(s), fieldsOf(environment.New(""))
	for key, value := range said {
		if reflect.DeepEqual(value, defaults[key]) {
			delete(said, key)
		}
	}
	data, _ := json.Marshal(said)
	return data
}

func fieldsOf(s environment.Spec) map[string]any {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		panic(err)
	}
	return out
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// FuzzEnvironment checks that no text makes Read panic, and that a spec that
// comes out of it is one that can be used.
func FuzzEnvironment(f *testing.F) {
	f.Add("apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: a}\nspec: {path: apps, adoptFrom: ['*']}\n")
	f.Add("apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: &m {name: a, labels: *m}\nspec: {drift: {mode: reprot}}\n---\n--- x")
	f.Add("apiVersion: holdfast.dev/v1alpha1\n? [a]\n: b\nspec: [")
	f.Add("apiVersion: holdfast.dev/v1alpha1\nkind: Blueprint\nmetadata: {name: b}\nspec: {path: apps, parameters: {x: {type: int, enum: [1]}, y: {pattern: '['}}}\n---\napiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: e}\nspec: {extends: b, with: {x: 1, y: null}, namespace: 'n-${x}', patches: [{patch: 'a: ${y|text}'}]}\n")
	f.Add("apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: p}\nspec: {preview: {branches: ['**', 'a?']}, namespace: 'n-${branchSlug}', helm: {values: {<<: {a: 1}}, valuesFrom: [{}]}, windows: [{schedule: '* * * * *'}], health: {checks: [{ready: 'self.x'}]}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		tree := treetest.New(map[string]string{"env.yaml": text, "apps/x": ""})
		repo, err := environment.Read(tree, ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range repo.Specs {
			if s.Name == "" || s.Target == "" || s.Line < 1 {
				t.Errorf("incomplete spec %+v", s)
			}
			if info, err := tree.Stat(s.Path); s.Source == nil && (err != nil || !info.IsDir()) {
				t.Errorf("path %q is no folder of the tree", s.Path)
			}
			if repo.Show(s.Name) == nil {
				t.Errorf("%q cannot be shown", s.Name)
			}
		}
		for _, tpl := range repo.Templates {
			if spec, err := tpl.For("feature/Ä b", "0123"); err == nil && !dnsLabel.MatchString(spec.Name) {
				t.Errorf("a preview is called %q", spec.Name)
			}
		}
		for _, b := range repo.Broken {
			if len(b.Problems) == 0 {
				t.Errorf("%q is broken without a problem", b.Name)
			}
		}
	})
}
