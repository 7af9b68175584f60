package environment_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// BenchmarkRead reads 1,000 environments that extend one blueprint, each in a
// file of its own.
func BenchmarkRead(b *testing.B) {
	files := map[string]string{
		"app/x.yaml": "",
		"environments/blueprint.yaml": head("Blueprint", "service") + `spec:
  path: app
  namespace: team-${team}
  parameters: {team: {pattern: "[a-z0-9]+"}, replicas: {type: int, default: 2}}
  images: [{name: app, newTag: "1"}]
  replicas: [{name: app, count: "${replicas}"}]
  commonLabels: {team: "${team}", tier: web}
  health: {checks: [{apiVersion: example.org/v1, kind: Database, ready: 'self.status.phase == "Ready"'}]}
`,
	}
	for i := range 1000 {
		files[fmt.Sprintf("environments/e%d.yaml", i)] = head("Environment", fmt.Sprintf("e%d", i)) +
			fmt.Sprintf("spec: {extends: service, with: {team: t%d}, drift: {mode: report}}\n", i)
	}
	tree := treetest.New(files)
	b.ReportAllocs()
	for b.Loop() {
		repo, err := environment.Read(tree, "environments")
		if err != nil || len(repo.Specs) != 1000 || len(repo.Broken) > 0 {
			b.Fatal(err, len(repo.Specs), repo.Broken)
		}
	}
}

func head(kind, name string) string {
	return "apiVersion: holdfast.dev/v1alpha1\nkind: " + kind + "\nmetadata: {name: " + name + "}\n"
}
