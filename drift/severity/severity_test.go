package severity_test

import (
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/severity"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

var deployment = sources.ID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}

func TestBuiltInRulesGradeByFieldAndKind(t *testing.T) {
	g := severity.New(nil)
	for _, tt := range []struct {
		object sources.ID
		class  drift.Class
		path   string
		want   drift.Severity
		rule   string
	}{
		{deployment, drift.Changed, ".spec.template.spec.containers[name=web].image", drift.High, "image"},
		{deployment, drift.Changed, ".spec.template.spec.containers[name=web].args", drift.High, "command"},
		{deployment, drift.Changed, ".spec.template.spec.containers[name=web].securityContext.privileged", drift.Critical, "privileges of a container"},
		{deployment, drift.Changed, ".spec.replicas", drift.Medium, "replicas"},
		{deployment, drift.Changed, ".metadata.labels.team", drift.Low, "labels and annotations"},
		{deployment, drift.Missing, "", drift.High, "missing object"},
		{deployment, drift.NotOwned, ".spec.template.spec.containers[name=web].image", drift.Low, "only the ownership changed"},
		{deployment, drift.Changed, ".spec.paused", drift.Medium, "any other field"},
		{sources.ID{Kind: "ConfigMap", Name: "a"}, drift.Changed, ".data.image", drift.Medium, "any other field"},
		{sources.ID{Kind: "Secret", Name: "a"}, drift.Changed, ".data.token", drift.High, "secret"},
		{sources.ID{Kind: "Namespace", Name: "a"}, drift.Changed, `.metadata.labels["pod-security.kubernetes.io/enforce"]`, drift.Medium, "any other field"},
		{sources.ID{Group: "rbac.authorization.k8s.io", Kind: "Role", Name: "a"}, drift.Changed, ".rules", drift.Critical, "who may do what"},
		{sources.ID{Group: "rbac.authorization.k8s.io", Kind: "Role", Name: "a"}, drift.ExtraField, ".rules", drift.Critical, "who may do what"},
	} {
		got, rule := g.Grade(severity.Subject{Object: tt.object, Class: tt.class, Path: tt.path})
		if got != tt.want || rule != tt.rule {
			t.Errorf("%s %s %s: %s by %q, want %s by %q", tt.object, tt.class, tt.path, got, rule, tt.want, tt.rule)
		}
	}
}

func TestRulesOfTheSpecComeFirst(t *testing.T) {
	g := severity.New([]environment.SeverityRule{
		{When: `object.kind == "Deployment" && labels["tier"] == "gold"`, Severity: environment.SeverityCritical},
		{When: `path.startsWith(".spec.replicas") && manager.startsWith("kubectl")`, Severity: environment.SeverityLow},
		{When: `labels.nowhere == "x"`, Severity: environment.SeverityCritical},
	})
	s := severity.Subject{Object: deployment, Class: drift.Changed, Path: ".spec.replicas", Manager: "kubectl-edit", Labels: map[string]string{"tier": "gold"}}
	if got, rule := g.Grade(s); got != drift.Critical || rule != "spec.drift.severity[0]" {
		t.Errorf("%s by %q", got, rule)
	}
	s.Labels = nil // the first rule fails, which is false
	if got, rule := g.Grade(s); got != drift.Low || rule != "spec.drift.severity[1]" {
		t.Errorf("%s by %q", got, rule)
	}
	s.Manager = "operator"
	if got, rule := g.Grade(s); got != drift.Medium || rule != "replicas" {
		t.Errorf("%s by %q", got, rule)
	}
	if g.Of(nil) {
		t.Error("the grader is that of other rules")
	}
}
