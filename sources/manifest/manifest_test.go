package manifest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

const minimal = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		name, text string
		o          manifest.Options
		want       string
	}{
		{"file", minimal, manifest.Options{MaxFileBytes: 10}, "f.yaml: is 51 bytes, and at most 10 are read (split it into several files)"},
		{"documents", strings.Repeat(minimal+"---\n", 3), manifest.Options{MaxDocuments: 2}, "f.yaml:9: has more than 2 documents (split it into several files)"},
		{"list entries", "kind: List\napiVersion: v1\nitems:\n" + strings.Repeat("- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n", 3), manifest.Options{MaxDocuments: 2}, "f.yaml:6: has more than 2 documents (split it into several files)"},
		{"depth", minimal + "x: " + strings.Repeat("[", 300) + strings.Repeat("]", 300) + "\n", manifest.Options{}, "f.yaml:1: the object nests too deep"},
		{"JSON depth", `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "x": ` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + "}", manifest.Options{}, "f.yaml:1: the object nests too deep"},
		{"object", minimal + "data: {x: " + strings.Repeat("x", 1000) + "}\n", manifest.Options{MaxObjectBytes: 500}, "f.yaml:1: ConfigMap/a: is 1078 bytes, and at most 500 are read (an API server stores about 1.5 MiB at most)"},
		{"aliases", "x: &x " + strings.Repeat("y", 10_000) + "\n" + minimal + "y: [" + strings.Repeat("*x,", 1000) + "]\n", manifest.Options{}, "f.yaml:1: the object is too large once its aliases are expanded"},
		{"entries", minimal + "x: [" + strings.Repeat("a,", 1_100_000) + "]\n", manifest.Options{}, "f.yaml:1: the document has too many entries to be read (split it)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := manifest.Parse("f.yaml", []byte(c.text), c.o)
			if got := problems.Error(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDeepNestingIsNotFollowed(t *testing.T) {
	for _, text := range []string{strings.Repeat("[", 1_000_000), strings.Repeat("a: {", 100_000), strings.Repeat("- ", 500_000)} {
		if _, problems := manifest.Parse("f.yaml", []byte(text), manifest.Options{}); len(problems) == 0 {
			t.Error("read without a problem")
		}
	}
}

func TestLinks(t *testing.T) {
	tree := treetest.New(map[string]string{"env/a.yaml": minimal, "other/b.yaml": named("b")}).
		WithLink("env/b.yaml", "../other/b.yaml")
	items, err := manifest.Load(tree, "env", manifest.Options{})
	if err != nil || len(items) != 2 {
		t.Errorf("items %v, error %v", items, err)
	}
	tree = tree.WithLink("env/dir", "../other").WithLink("env/none.yaml", "nowhere").WithLink("env/readme", "nowhere")
	_, err = manifest.Load(tree, "env", manifest.Options{})
	want := "env/dir: is a symbolic link to a folder, which is not followed (put the folder itself here, or list the link in .holdfastignore)\n" +
		"env/none.yaml: is a symbolic link that leads to no file of the repository"
	if err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
}

func named(name string) string { return strings.Replace(minimal, "name: a", "name: "+name, 1) }

func TestCacheParsesOnlyWhatChanged(t *testing.T) {
	o := manifest.Options{Cache: manifest.NewCache(1 << 20)}
	tree := treetest.New(map[string]string{"a.yaml": named("a"), "b.yaml": named("b")})
	load := func(tree *treetest.Tree) []sources.Item {
		t.Helper()
		items, err := manifest.Load(tree, ".", o)
		if err != nil {
			t.Fatal(err)
		}
		return items
	}
	load(tree)
	tree.Reads()
	load(tree)
	// The one read is that of the absent ignore file.
	if n := tree.Reads(); n != 1 {
		t.Errorf("%d reads of unchanged files", n)
	}
	changed := tree.With("b.yaml", named("c"))
	if items := load(changed); items[1].ID.Name != "c" || changed.Reads() != 2 {
		t.Errorf("items %v", items)
	}
	// A file that moves has the same content and another origin.
	moved := tree.Without("b.yaml").With("z.yaml", named("b"))
	if items := load(moved); items[1].Origin.File != "z.yaml" {
		t.Errorf("origin %v", items[1].Origin)
	}
	if _, err := manifest.Load(tree.With("b.yaml", "{"), ".", o); err == nil {
		t.Error("a broken file was loaded from the cache")
	}
}

func TestWithNamespace(t *testing.T) {
	items, problems := manifest.Parse("f.yaml", []byte(minimal+"data: {x: '<&>', n: 9007199254740993}\n"), manifest.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	moved, err := manifest.WithNamespace(items[0], "web")
	if err != nil {
		t.Fatal(err)
	}
	direct, problems := manifest.Parse("f.yaml", []byte(strings.Replace(minimal, "name: a", "name: a, namespace: web", 1)+"data: {x: '<&>', n: 9007199254740993}\n"), manifest.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(direct[0], moved); diff != "" {
		t.Errorf("-written +moved:\n%s", diff)
	}
	back, err := manifest.WithNamespace(moved, "")
	if err != nil || cmp.Diff(items[0], back) != "" {
		t.Errorf("%+v, %v", back, err)
	}
}

// asKubectl decodes a file as kubectl does and prunes what manifest prunes.
func asKubectl(t *testing.T, text string) []string {
	t.Helper()
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	var out []string
	for {
		var raw runtime.RawExtension
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if raw.Raw = bytes.TrimSpace(raw.Raw); len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue
		}
		object, _, err := unstructured.UnstructuredJSONScheme.Decode(raw.Raw, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(object.(*unstructured.Unstructured).Object)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(body))
	}
}

// TestReadsAsKubectl compares the values with those that kubectl's own decoder
// gives, for the spellings on which YAML libraries disagree.
func TestReadsAsKubectl(t *testing.T) {
	values := map[string]string{}
	for _, v := range []string{
		"yes", "No", "ON", "off", "y", "n", "True", "~", "null", "Null", "", "0644", "0o644", "0b11", "0x1F", "1_000", "+1", "-0",
		"1:30", "1:30:00", "1e3", "1.", ".5", "1e400x", "6.02e23", "0.1", "9007199254740993", "-9223372036854775808", "9223372036854775807",
		"2020-01-02", "2020-01-02T03:04:05Z", "=", "<<", "'<<'", "\"\\u00e9\\x41\\n\"", "!!str 1", "!!int '1'", "!!float 1", "!!binary aGk=",
		"|\n    a\n\n    b\n", ">-\n    a\n    b\n", "[yes, {no: on}]", "{1: a, 1.5: b, true: c, ~x: d}", "&x a", "1 # comment", "a #b", "a#b", "'it''s'", "😀", "\"\\ud83d\\ude00\"x",
	} {
		values[fmt.Sprintf("v%d", len(values))] = v
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text := minimal + "value: " + values[name] + "\n"
		items, problems := manifest.Parse("f.yaml", []byte(text), manifest.Options{})
		if len(problems) > 0 {
			// What is a problem here must be one for kubectl.
			var raw runtime.RawExtension
			if err := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096).Decode(&raw); err == nil {
				t.Errorf("%q: %v, but kubectl reads %s", values[name], problems, raw.Raw)
			}
			continue
		}
		var got, want any
		if err := errors.Join(json.Unmarshal(items[0].Body, &got), json.Unmarshal([]byte(asKubectl(t, text)[0]), &want)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -kubectl +here:\n%s", values[name], diff)
		}
	}
}

// FuzzManifest checks that no text makes Parse panic or lose its bounds, and
// that the body of what it gives reads back as the same item.
func FuzzManifest(f *testing.F) {
	f.Add(minimal)
	f.Add(minimal + "---\n" + minimal + "...\n# x\n--- # y\n[]")
	f.Add("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {a: b}}, ~]")
	f.Add(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"a":1}}}{}`)
	f.Add("a: &a [*a]\nb: {<<: *a, ? [x] : y}\n")
	f.Add("%YAML 1.1\n---\n!!binary x: !!timestamp 2020-01-01\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, dialect := range []manifest.Dialect{manifest.Kubectl, manifest.Kustomize} {
			o := manifest.Options{Dialect: dialect, MaxObjectBytes: 1 << 16, MaxFileBytes: 1 << 16}
			items, problems := manifest.Parse("f.yaml", []byte(text), o)
			lines := strings.Count(text, "\n") + 1
			for _, p := range problems {
				if p.Line > lines || p.Line < 0 || p.Message == "" {
					t.Errorf("problem %+v in a file of %d lines", p, lines)
				}
			}
			for _, i := range items {
				if i.ID.Name == "" || i.ID.Kind == "" || i.Version == "" || i.Origin.Line < 1 || i.Origin.Line > lines {
					t.Errorf("incomplete item %+v", i)
				}
				again, problems := manifest.Object(i.Origin, i.Body, manifest.Options{})
				if len(problems) > 0 || len(again) != 1 || again[0].Digest != i.Digest || again[0].ID != i.ID {
					t.Errorf("%s reads back as %+v, %v", i.Body, again, problems)
				}
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-%d\n  labels:\n    app: app\nspec:\n  replicas: 2\n  selector:\n    matchLabels:\n      app: app\n  template:\n    metadata:\n      labels:\n        app: app\n    spec:\n      containers:\n      - name: main\n        image: registry.example.com/app:1\n        env:\n        - name: A\n          value: \"1\"\n        resources:\n          requests:\n            cpu: 100m\n---\n"
	var text bytes.Buffer
	for i := range 100 {
		fmt.Fprintf(&text, deployment, i)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if items, problems := manifest.Parse("f.yaml", text.Bytes(), manifest.Options{}); len(problems) > 0 || len(items) != 100 {
			b.Fatal(problems)
		}
	}
}

func TestDocumentsOfOursSayThatTheyAreSensitive(t *testing.T) {
	for text, want := range map[string]bool{
		"apiVersion: host.holdfast.dev/v1alpha1\nkind: File\nmetadata: {name: a}\nspec: {sensitive: true}":  true,
		"apiVersion: host.holdfast.dev/v1alpha1\nkind: File\nmetadata: {name: a}\nspec: {sensitive: false}": false,
		"apiVersion: example.org/v1\nkind: File\nmetadata: {name: a}\nspec: {sensitive: true}":              false,
	} {
		items, problems := manifest.Parse("a.yaml", []byte(text), manifest.Options{})
		if len(problems) > 0 || len(items) != 1 || items[0].Sensitive != want {
			t.Errorf("%s: %+v, %v", text, items, problems)
		}
	}
}
