package environment_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/internal/testkit/schema"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// refusedBySchema are the wrong documents of testdata that a schema can tell.
const refusedBySchema = `
	absolute broken chart-one chart-three chart-two declarations differs how list many
	number shapes uses-broken-fields web where
`

const schemaFile = "../../docs/environment.schema.json"

// The forms of the fields' checks, as far as a pattern can say them.
var forms = map[string]schema.Object{
	"label":          {"pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
	"serviceAccount": {"pattern": "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
	"ref":            {"pattern": `^[^-/ ~^:?*\[\\][^ ~^:?*\[\\]*$`},
	"digest":         {"pattern": "^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$"},
	"path":           {"pattern": "^[^/]"},
	"chartRepo":      {"pattern": "^(https?|oci)://[^@?#]+$"},
	"releaseName":    {"pattern": "^[a-z0-9]([-a-z0-9.]{0,51}[a-z0-9])?$"},
	"kubeVersion":    {"pattern": `^v?[0-9]+\.[0-9]+(\.[0-9]+)?$`},
	"valuePath":      {"pattern": `^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`},
	"pointer":        {"pattern": "^/"},
	"labels":         {"pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"},
}

// makeSchema is the schema of a document.
func makeSchema(t *testing.T) []byte {
	t.Helper()
	comments, err := schema.ReadComments(".", "../substitute")
	if err != nil {
		t.Fatal(err)
	}
	m := &schema.Maker{
		Comments: comments, Checks: forms, References: true, Nulls: true, Defs: schema.Object{},
		Literal: []reflect.Type{reflect.TypeFor[environment.Parameter](), reflect.TypeFor[environment.Preview]()},
	}
	spec := m.Struct(reflect.ValueOf(environment.New("")), false)
	spec["description"] = "What is asked for."
	name := schema.Object{"type": "string", "description": "Unique in a daemon.", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
	texts := schema.Object{"type": "object", "additionalProperties": schema.Object{"type": "string"}}
	root := schema.Object{
		"$schema": schema.Dialect, "$id": "https://holdfast.dev/schemas/v1alpha1/environment.json", "title": "Environment",
		"description": "A folder that is applied to a target, or a Blueprint that environments extend.",
		"type":        "object", "additionalProperties": false, "required": []any{"apiVersion", "kind", "metadata"},
		"properties": schema.Object{
			"apiVersion": schema.Object{"const": environment.APIVersion},
			"kind":       schema.Object{"enum": []any{environment.Kind, environment.KindBlueprint}},
			"metadata": schema.Object{
				"type": "object", "additionalProperties": false, "required": []any{"name"},
				"properties": schema.Object{"name": name, "labels": texts, "annotations": texts},
			},
			"spec": schema.Object{"anyOf": []any{schema.Object{"$ref": "#/$defs/Spec"}, schema.Object{"type": "null"}}},
		},
		"$defs": m.Defs,
	}
	m.Defs["Spec"] = spec
	text, err := schema.Text(root)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheSchemaIsCurrent(t *testing.T) {
	text := makeSchema(t)
	if *update {
		if err := os.WriteFile(schemaFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, text) {
		t.Errorf("%s is not what the types say: run go test ./sources/environment -update", schemaFile)
	}
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(makeSchema(t)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("environment.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("environment.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// documents are the environment documents of an archive or a file.
func documents(t *testing.T, file string, data []byte) map[string]any {
	t.Helper()
	out := map[string]any{}
	for i, text := range strings.Split("\n"+string(data), "\n---") {
		if !strings.Contains(text, "\napiVersion: holdfast.dev/v1alpha1") {
			continue
		}
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			continue // what is no YAML is not for a schema
		}
		head, _ := doc.(map[string]any)
		meta, _ := head["metadata"].(map[string]any)
		name, _ := meta["name"].(string)
		if name == "" {
			name = string(rune('0' + i))
		}
		out[file+"/"+name] = doc
	}
	return out
}

// TestTheSchemaAgreesWithTheDecoder validates every document of testdata and of
// the examples: what the decoder takes, the schema takes. What only the schema
// cannot see is listed.
func TestTheSchemaAgreesWithTheDecoder(t *testing.T) {
	s := compile(t)
	archives, _ := filepath.Glob("testdata/*.txtar")
	var refused []string
	for _, file := range archives {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		docs := map[string]any{}
		for _, f := range archive.Files {
			if f.Name == "want" {
				want = string(f.Data)
				continue
			}
			for name, doc := range documents(t, filepath.Base(file), f.Data) {
				docs[name] = doc
			}
		}
		for full, doc := range docs {
			_, name, _ := strings.Cut(full, "/")
			err := s.Validate(doc)
			switch broken := strings.Contains(want, `broken "`+name+`"`); {
			case broken && err != nil:
				refused = append(refused, name)
			case broken:
			case err != nil && strings.Contains(want, `"name":"`+name+`"`):
				t.Errorf("%s is right, and the schema refuses it: %v", full, err)
			}
		}
	}
	slices.Sort(refused)
	if diff := cmp.Diff(strings.Fields(refusedBySchema), refused); diff != "" {
		t.Errorf("refused: -want +got:\n%s", diff)
	}
}

func TestTheSchemaTakesTheExamples(t *testing.T) {
	s, found := compile(t), 0
	err := filepath.WalkDir("../../examples", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for name, doc := range documents(t, path, data) {
			found++
			if err := s.Validate(doc); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("found %d, %v", found, err)
	}
}
