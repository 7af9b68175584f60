package kube

import (
	"context"
	"path"
	"slices"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/internal/celexpr"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// check is a compiled health check of a spec.
type check struct {
	text    environment.HealthCheck
	kind    schema.GroupVersionKind
	ready   *celexpr.Program
	failed  *celexpr.Program
	message *celexpr.Program
	// broken is why it could not be compiled, which the spec's own check prevents.
	broken string
}

type checks []check

// checkTime bounds the evaluation of one check.
const checkTime = 100 * time.Millisecond

func checksOf(all []environment.HealthCheck) checks {
	var out checks
	for _, text := range all {
		c := check{text: text, kind: schema.FromAPIVersionAndKind(text.APIVersion, text.Kind)}
		var err error
		compile := func(env *celexpr.Env, expression string) *celexpr.Program {
			if expression == "" || err != nil {
				return nil
			}
			var p *celexpr.Program
			p, err = env.Compile(expression)
			return p
		}
		c.ready = compile(celexpr.Health, text.Ready)
		c.failed = compile(celexpr.Health, text.Failed)
		c.message = compile(celexpr.Message, text.Message)
		if err != nil {
			c.broken = err.Error()
		}
		out = append(out, c)
	}
	return out
}

func (cs checks) has(gk schema.GroupKind) bool {
	return slices.ContainsFunc(cs, func(c check) bool { return c.kind.GroupKind() == gk })
}

func (cs checks) kinds() []schema.GroupKind {
	var out []schema.GroupKind
	for _, c := range cs {
		out = append(out, c.kind.GroupKind())
	}
	return out
}

func (cs checks) equal(other checks) bool {
	return slices.EqualFunc(cs, other, func(a, b check) bool { return a.text == b.text })
}

// judge evaluates the first check that is about an object; ok is false when none
// is. An expression that cannot be evaluated, as before a controller has written
// any status, means that the object is not ready.
func (cs checks) judge(u *unstructured.Unstructured) (s status.Status, why string, ok bool) {
	for _, c := range cs {
		named, err := path.Match(c.text.Name, u.GetName())
		if c.kind.GroupKind() != u.GroupVersionKind().GroupKind() || c.text.Name != "" && (err != nil || !named) {
			continue
		}
		s, why = c.judge(u)
		return s, why, true
	}
	return "", "", false
}

func (c check) judge(u *unstructured.Unstructured) (status.Status, string) {
	if c.broken != "" {
		return status.UnknownStatus, "health check: " + c.broken
	}
	if seen, found, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); found && seen < u.GetGeneration() {
		return status.InProgressStatus, "its controller has not seen the newest generation"
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	self := map[string]any{"self": u.Object}
	if c.failed != nil {
		if failed, err := c.failed.Bool(ctx, self); err == nil && failed {
			return status.FailedStatus, c.words(ctx, self, "the health check says that it failed")
		}
	}
	ready, err := c.ready.Bool(ctx, self)
	switch {
	case err != nil:
		return status.InProgressStatus, c.words(ctx, self, shorten("health check: "+err.Error()))
	case ready:
		return status.CurrentStatus, ""
	}
	return status.InProgressStatus, c.words(ctx, self, "the health check says that it is not ready")
}

func (c check) words(ctx context.Context, self map[string]any, otherwise string) string {
	if c.message == nil {
		return otherwise
	}
	text, err := c.message.Text(ctx, self)
	if err != nil || text == "" {
		return otherwise
	}
	return shorten(text)
}
