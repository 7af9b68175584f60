// Package severity says how bad a drift is: by the rules of the environment's
// spec, else by those that are built in. Values play no part, so that nothing of
// a secret can come out by its grade.
package severity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/internal/celexpr"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// evalTime bounds the evaluation of one rule.
const evalTime = 20 * time.Millisecond

// Subject is the drift of one field.
type Subject struct {
	Environment string
	// Labels are the environment's.
	Labels  map[string]string
	Object  sources.ID
	Class   drift.Class
	Path    string
	Manager string
}

// Grader grades. It is safe for concurrent use.
type Grader struct {
	rules []rule
	text  []environment.SeverityRule
}

type rule struct {
	program  *celexpr.Program
	severity drift.Severity
	name     string
}

// New compiles a spec's rules. One that cannot be compiled, which the check of the
// spec prevents, is passed over.
func New(rules []environment.SeverityRule) *Grader {
	g := &Grader{text: slices.Clone(rules)}
	for i, r := range rules {
		if p, err := celexpr.Severity.Compile(r.When); err == nil {
			g.rules = append(g.rules, rule{p, drift.Severity(r.Severity), fmt.Sprintf("spec.drift.severity[%d]", i)})
		}
	}
	return g
}

// Of reports whether the grader is that of these rules.
func (g *Grader) Of(rules []environment.SeverityRule) bool { return slices.Equal(g.text, rules) }

// Grade is the severity, and the rule that says so: the first of the spec's that
// is true, else the first that is built in. A rule that fails counts as false.
func (g *Grader) Grade(s Subject) (drift.Severity, string) {
	if len(g.rules) > 0 {
		vars := s.vars()
		for _, r := range g.rules {
			ctx, cancel := context.WithTimeout(context.Background(), evalTime)
			yes, err := r.program.Bool(ctx, vars)
			cancel()
			if err == nil && yes {
				return r.severity, r.name
			}
		}
	}
	for _, b := range builtIn {
		if b.is(s) {
			return b.severity, b.name
		}
	}
	return drift.Medium, "any other field"
}

func (s Subject) vars() map[string]any {
	labels := map[string]any{}
	for k, v := range s.Labels {
		labels[k] = v
	}
	return map[string]any{
		"object": map[string]any{
			"group": s.Object.Group, "kind": s.Object.Kind, "namespace": s.Object.Namespace, "name": s.Object.Name,
		},
		"path": s.Path, "class": string(s.Class), "manager": s.Manager, "environment": s.Environment, "labels": labels,
	}
}

// builtInRule is one of the rules that count where the spec has none.
type builtInRule struct {
	name     string
	severity drift.Severity
	is       func(Subject) bool
}

// builtIn are in the order in which they are asked.
var builtIn = []builtInRule{
	{"only the ownership changed", drift.Low, class(drift.NotOwned)},
	{"unmanaged object", drift.Low, class(drift.Unmanaged)},
	{"older revision", drift.Medium, class(drift.StaleRevision)},
	{"labels and annotations", drift.Low, isLabel},
	{"who may do what", drift.Critical, isRBAC},
	{"admission of the whole cluster", drift.Critical, group("admissionregistration.k8s.io")},
	{"privileges of a container", drift.Critical, field("securityContext", "hostNetwork", "hostPID", "hostIPC", "hostPath")},
	{"secret", drift.High, func(s Subject) bool { return s.Object.Group == "" && s.Object.Kind == "Secret" }},
	{"network policy", drift.High, func(s Subject) bool { return s.Object.Kind == "NetworkPolicy" }},
	{"missing object", drift.High, class(drift.Missing)},
	{"image", drift.High, field("image", "imagePullSecrets")},
	{"command", drift.High, field("command", "args")},
	{"identity of a workload", drift.High, field("serviceAccountName", "serviceAccount", "automountServiceAccountToken")},
	{"environment of a container", drift.High, field("env", "envFrom")},
	{"field that others added", drift.Low, class(drift.ExtraField)},
	{"replicas", drift.Medium, field("replicas", "minReplicas", "maxReplicas", "parallelism")},
	{"finalizers and owners", drift.Medium, field("finalizers", "ownerReferences")},
}

func class(c drift.Class) func(Subject) bool {
	return func(s Subject) bool { return s.Class == c }
}

func group(name string) func(Subject) bool {
	return func(s Subject) bool { return s.Object.Group == name }
}

// field is about the fields of these names, and all that is below them. Data
// whose keys only look like that is none: a ConfigMap may have a key "image".
func field(names ...string) func(Subject) bool {
	return func(s Subject) bool {
		steps := drift.PathSteps(s.Path)
		if len(steps) > 0 && (steps[0] == "data" || steps[0] == "binaryData" || steps[0] == "stringData") {
			return false
		}
		return slices.ContainsFunc(steps, func(step string) bool { return slices.Contains(names, step) })
	}
}

// isRBAC is what RBAC objects grant, and to whom. Adding to it is as bad as
// changing it.
func isRBAC(s Subject) bool { return s.Object.Group == "rbac.authorization.k8s.io" }

// isLabel is a label or annotation of anything but the ones that name who may
// reach what: those of a Namespace choose its pod security.
func isLabel(s Subject) bool {
	if s.Object.Group == "" && s.Object.Kind == "Namespace" || s.Class == drift.Missing {
		return false
	}
	return strings.HasPrefix(s.Path, ".metadata.labels") || strings.HasPrefix(s.Path, ".metadata.annotations")
}
