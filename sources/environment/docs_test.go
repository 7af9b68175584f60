package environment_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestTheDocumentationIsRight reads every YAML block of the documentation as it
// stands there; a part of a spec gets a head.
func TestTheDocumentationIsRight(t *testing.T) {
	text, err := os.ReadFile("../../docs/environment.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 8 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for i, m := range blocks {
		files := map[string]string{"values/common.yaml": "", "values/prod.yaml": ""}
		for _, dir := range []string{"overlays/prod", "service", "deploy", "shop"} {
			files[dir+"/x.yaml"] = ""
		}
		block := m[1]
		if strings.HasPrefix(block, "spec:") {
			block = fmt.Sprintf("apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: block-%d}\n%s", i, block)
		}
		if strings.Contains(block, "parameter: replicas") {
			block = strings.Replace(block, "spec:\n", "spec:\n  parameters: {replicas: {type: int, default: 1}}\n", 1)
		}
		files["env.yaml"] = block
		repo, err := environment.Read(treetest.New(files), "env.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range repo.Broken {
			t.Errorf("%s\nis wrong: %v", block, b)
		}
		if len(repo.Specs)+len(repo.Templates) == 0 {
			t.Errorf("%s\nholds no spec", block)
		}
	}
}
