package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestTreeTable(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, now: func() time.Time { return now }}
	pod := reconciler.Part{
		Object: sources.ID{Kind: "Pod", Namespace: "web", Name: "api-abc-1"}, Health: reconciler.HealthFailed, Why: "CrashLoopBackOff:\nback-off", Restarts: 7, Where: "node-a", Created: now.Add(-time.Hour),
	}
	tree := api.ObjectTree{Environment: "prod", Tree: reconciler.Tree{Cut: true, Problems: []string{"list jobs in web: forbidden"}, Part: reconciler.Part{
		Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"}, Health: reconciler.HealthProgressing, Restarts: 7,
		Parts: []reconciler.Part{{Object: sources.ID{Group: "apps", Kind: "ReplicaSet", Namespace: "web", Name: "api-abc"}, Health: reconciler.HealthProgressing, Restarts: 7, Parts: []reconciler.Part{pod}}},
	}}}
	a.treeTable(&out, tree)
	want := []string{
		"OBJECT HEALTH RESTARTS MADE ON WHY", "Deployment/web/api progressing 7 – –", "ReplicaSet/web/api-abc progressing 7 – –",
		"Pod/web/api-abc-1 failed 7 1h0m ago node-a CrashLoopBackOff: back-off", "there is more than is listed", "not all could be read: list jobs in web: forbidden",
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if words := strings.Fields(line); len(words) > 0 {
			got = append(got, strings.Join(words, " "))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || !strings.Contains(out.String(), "\n    Pod/") {
		t.Errorf("the table is:\n%s", out.String())
	}
	if !hasFailed(tree.Parts) || hasFailed(nil) {
		t.Error("what failed is not found")
	}
}
