package daemon

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

const blamedFile = `kind: ConfigMap
data:
  a: x
---
kind: Deployment
spec:
  replicas: 3
  template:
    containers:
    - name: web
      image: web:1
`

// countedBlamer counts the lines that a repository is asked about.
type countedBlamer struct {
	*gitrepo.Repo
	lines int
}

func (c *countedBlamer) Blame(ctx context.Context, revision string, places []gitrepo.Place) ([]gitrepo.Line, error) {
	c.lines += len(places)
	return c.Repo.Blame(ctx, revision, places)
}

func TestBlameFindsTheLineOfEachField(t *testing.T) {
	srv := gitserver.Start(t)
	origin := srv.Repo(t, "shop")
	first := origin.Commit(t, map[string]string{"web.yaml": blamedFile})
	second := origin.Commit(t, map[string]string{"web.yaml": strings.Replace(blamedFile, "web:1", "web:2", 1)})
	head := origin.Commit(t, map[string]string{"web.yaml": "# new\n" + strings.Replace(blamedFile, "web:1", "web:2", 1)})
	repo, err := gitrepo.Open(gitrepo.Options{Name: "shop", URL: origin.URL, Dir: filepath.Join(t.TempDir(), "mirror")})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	snap, err := repo.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	source := &countedBlamer{Repo: repo}
	in := func(environment string) (string, blamer) {
		if environment == "local" {
			return "local", nil
		}
		return "shop", source
	}
	episode := drift.Episode{
		ID: "e1", Environment: "prod", Class: drift.Changed, Commit: head, Origin: sources.Origin{File: "web.yaml", Line: 6},
		Changes: []drift.Change{
			{Path: ".spec.replicas"}, {Path: ".spec.template.containers[name=web].image"}, {Path: ".spec.nowhere"},
		},
	}
	rendered, local := episode, episode
	rendered.Origin.Layer = "kustomize"
	local.Environment = "local"
	b := newBlames()
	for range 2 {
		got := b.all(t.Context(), in, []drift.Episode{episode, rendered, local, episode})
		for _, i := range []int{0, 3} {
			replicas, image := got[i].Changes[0].Line, got[i].Changes[1].Line
			if replicas == nil || replicas.Number != 8 || replicas.Commit != first || replicas.Author != "Ada Example" || replicas.Unsure != "" {
				t.Errorf("replicas: %+v", replicas)
			}
			if image == nil || image.Number != 12 || image.Commit != second {
				t.Errorf("image: %+v", image)
			}
			if nowhere := got[i].Changes[2].Line; nowhere != nil {
				t.Errorf("a field that the file does not set is on %+v", nowhere)
			}
		}
		if got[1].Changes[0].Line != nil || got[2].Changes[0].Line != nil {
			t.Errorf("what is rendered or not in a repository has lines: %+v, %+v", got[1].Changes[0].Line, got[2].Changes[0].Line)
		}
	}
	if episode.Changes[0].Line != nil {
		t.Error("what was given was changed")
	}
	if source.lines != 3 {
		t.Errorf("%d lines were looked up, want each once", source.lines)
	}
	srv.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := b.all(ended, in, []drift.Episode{episode}); got[0].Changes[0].Line == nil {
		t.Error("what is known is not told without the server")
	}
}

func TestBlameIsBounded(t *testing.T) {
	source := &manyBlamer{}
	episode := drift.Episode{Environment: "prod", Class: drift.Changed, Commit: strings.Repeat("a", 40), Origin: sources.Origin{File: "web.yaml", Line: 1}}
	for i := range maxBlamed + 5 {
		episode.Changes = append(episode.Changes, drift.Change{Path: ".f" + strings.Repeat("x", i)})
	}
	b := newBlames()
	in := func(string) (string, blamer) { return "shop", source }
	count := func(got []drift.Episode) (n int) {
		for _, c := range got[0].Changes {
			if c.Line != nil {
				n++
			}
		}
		return n
	}
	if got := count(b.all(t.Context(), in, []drift.Episode{episode})); got != maxBlamed {
		t.Errorf("%d lines are told, want %d", got, maxBlamed)
	}
	if got := count(b.all(t.Context(), in, []drift.Episode{episode})); got != maxBlamed+5 || source.lines != maxBlamed+5 {
		t.Errorf("the next who asks is told %d lines, %d were looked up", got, source.lines)
	}
}

type manyBlamer struct{ lines int }

func (m *manyBlamer) Blame(_ context.Context, revision string, places []gitrepo.Place) ([]gitrepo.Line, error) {
	m.lines += len(places)
	out := make([]gitrepo.Line, len(places))
	for i := range out {
		out[i] = gitrepo.Line{Number: i + 1, Revision: sources.Revision{ID: revision}}
	}
	return out, nil
}
