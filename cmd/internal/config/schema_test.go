package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/internal/testkit/schema"
	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

const schemaFile = "../../../docs/config.schema.json"

// makeSchema runs the decoder over a node that stands for anything, and so has
// exactly the keys that it knows.
func makeSchema(t *testing.T) []byte {
	t.Helper()
	comments, err := schema.ReadComments(".")
	if err != nil {
		t.Fatal(err)
	}
	n, shape := yamldoc.Describe()
	c := defaults()
	newDecoder("/").config(n, &c)
	m := &schema.Maker{Comments: comments, Nulls: true}
	root := m.Shape(shape, reflect.ValueOf(defaults()))
	root["$schema"], root["$id"] = schema.Dialect, "https://holdfast.dev/schemas/v1alpha1/config.json"
	root["title"], root["description"] = "Configuration", "What the daemon is told."
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
		t.Errorf("%s is not what the decoder reads: run go test ./cmd/internal/config -update", schemaFile)
	}
}

func TestTheSchemaAgreesWithTheDecoder(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(makeSchema(t)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := compiler.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	good, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range good {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(parsed(t, text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	archive, err := txtar.ParseFile("testdata/bad.txtar")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, f := range archive.Files {
		var value any
		if strings.HasSuffix(f.Name, ".yaml") && yaml.Unmarshal(f.Data, &value) == nil && s.Validate(value) != nil {
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("the schema refuses %d of the wrong files", refused)
	}
}

func parsed(t *testing.T, text []byte) (value any) {
	t.Helper()
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}
