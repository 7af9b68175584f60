package celexpr_test

import (
	"context"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/celexpr"
)

var object = map[string]any{"self": map[string]any{
	"status": map[string]any{"phase": "Ready", "replicas": int64(2), "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
}}

func TestExpressions(t *testing.T) {
	for text, want := range map[string]bool{
		`self.status.phase == "Ready"`:                                            true,
		`has(self.status.phase) && self.status.replicas > 1.5`:                    true,
		`self.status.conditions.exists(c, c.type == "Ready" && c.status == "No")`: false,
		`self.?status.?missing.orValue("x") == "x"`:                               true,
	} {
		p, err := celexpr.Health.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := p.Bool(context.Background(), object); err != nil || got != want {
			t.Errorf("%s = %v, %v", text, got, err)
		}
	}
	p, err := celexpr.Message.Compile(`"phase " + self.status.phase`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Text(context.Background(), object); err != nil || got != "phase Ready" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`self.status.phase = "Ready"`: "token recognition error at: '= ', at 1:19 of the expression",
		`object.kind == "x"`:          "undeclared reference to 'object', at 1:1 of the expression",
		`"text"`:                      "gives string, and must give bool",
		``:                            "mismatched input '<EOF>'",
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200): "recursion",
		strings.Repeat("x", 9<<10):                                   "at most 8192 are allowed",
	} {
		_, err := celexpr.Health.Compile(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", text, err, want)
		}
	}
	p, err := celexpr.Health.Compile(`self.missing == 1`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Bool(context.Background(), object); err == nil {
		t.Error("a missing field is no error")
	}
}

func TestCostIsBounded(t *testing.T) {
	many := make([]any, 200)
	for i := range many {
		many[i] = int64(i)
	}
	p, err := celexpr.Health.Compile(`self.all(a, self.all(b, self.all(c, a + b + c >= 0)))`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Bool(context.Background(), map[string]any{"self": many}); err == nil || !strings.Contains(err.Error(), "cost") {
		t.Errorf("8,000,000 steps: %v", err)
	}
}
