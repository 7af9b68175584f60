package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server"
	"github.com/holdfast-gitops/holdfast/sources"
)

// sourceValues are sources that answer with what they hold.
type sourceValues struct {
	all   []api.Source
	asked *api.AllowRequest
}

func (v *sourceValues) Sources() []api.Source { return v.all }

func (v *sourceValues) Allow(_ context.Context, name string, r api.AllowRequest) (api.Source, error) {
	v.asked = &r
	for i := range v.all {
		if s := &v.all[i]; s.Name == name && s.Held != nil && s.Held.To.ID == r.Revision {
			s.Revision, s.Held, s.Errors = s.Held.To, nil, nil
			return *s, nil
		}
	}
	return api.Source{}, api.Problem{Status: http.StatusConflict, Detail: "the revision that source " + name + " holds is another"}
}

// withSources runs a command line against sources.
func withSources(t *testing.T, v *sourceValues, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, err := server.ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	srv := server.New(server.Options{Engine: values{}, Sources: v, Now: func() time.Time { return now }})
	go func() { ended <- srv.Serve(ctx, nil, socket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	var out, errs bytes.Buffer
	env := func(name string) string { return map[string]string{"HOLDFAST_AUTHOR": "ann"}[name] }
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, env: env, now: func() time.Time { return now }}
	root := a.root()
	root.SetArgs(append(args, "--data-dir", dir))
	code = a.report(root.ExecuteContext(t.Context()))
	return code, out.String(), errs.String()
}

func goodSource(name string) api.Source {
	return api.Source{
		Name: name, Kind: api.KindGit, URL: "https://git.example.org/" + name + ".git", Ref: "main", Interval: "30s",
		Revision:    sources.Revision{ID: strings.Repeat("a1", 20), Ref: "refs/heads/main", Author: "Ann", Subject: "Scale up", Signer: "ann@example.org (SSH SHA256:abc)"},
		Commits:     []sources.Revision{{ID: strings.Repeat("a1", 20), Author: "Ann", Subject: "Scale up"}},
		LastListing: now.Add(-10 * time.Second), LastFetch: now.Add(-3 * time.Minute), FetchBytes: 4096, FetchSeconds: 0.25,
		MirrorBytes: 3 << 20, NextTry: now.Add(20 * time.Second),
	}
}

func failedSource() api.Source {
	s := goodSource("broken")
	s.Failures, s.Errors = 3, sources.Problems{{Message: "fetch https://git.example.org/broken.git: no answer within 1m0s"}}
	return s
}

func heldSource() api.Source {
	s := goodSource("shop")
	to := sources.Revision{ID: strings.Repeat("b2", 20), Ref: "refs/heads/main", Subject: "An older one"}
	s.Head = to
	s.Held = &api.HeldRevision{From: s.Revision, To: to, Ancestry: "rewinds", Since: now, Command: "holdfast allow shop " + to.ID + " --reason …"}
	s.Errors = sources.Problems{{Message: "revision " + to.ID + " of source shop is held", Hint: s.Held.Command}}
	return s
}

func TestSourcesEndWithTheWorst(t *testing.T) {
	for _, tt := range []struct {
		all  []api.Source
		want int
	}{
		{nil, 0},
		{[]api.Source{goodSource("a"), goodSource("b")}, 0},
		{[]api.Source{goodSource("a"), heldSource()}, 2},
		{[]api.Source{heldSource(), failedSource()}, 1},
	} {
		code, out, errs := withSources(t, &sourceValues{all: tt.all}, "sources")
		if code != tt.want {
			t.Errorf("%d sources: ended with %d, want %d\n%s%s", len(tt.all), code, tt.want, out, errs)
		}
	}
}

func TestSourcesTable(t *testing.T) {
	_, out, _ := withSources(t, &sourceValues{all: []api.Source{goodSource("web"), heldSource(), failedSource()}}, "sources")
	for _, want := range []string{
		"SOURCE", "web", "ok", "main@a1a1a1a", "Scale up", "10s ago", "https://git.example.org/web.git",
		"held: " + strings.Repeat("b2", 20), "in force: " + strings.Repeat("a1", 20), "holdfast allow shop " + strings.Repeat("b2", 20),
		"no answer within 1m0s",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	_, out, _ = withSources(t, &sourceValues{all: []api.Source{goodSource("web")}}, "sources", "web")
	for _, want := range []string{"signed by    ann@example.org (SSH SHA256:abc)", "4.0 KiB in 0.250s", "kept         3.0 MiB", "in 20s, every 30s", "brought      a1a1a1a  Scale up  (Ann)"} {
		if !strings.Contains(out, want) {
			t.Errorf("the detail lacks %q:\n%s", want, out)
		}
	}
	code, _, errs := withSources(t, &sourceValues{all: []api.Source{goodSource("web")}}, "sources", "wbe")
	if code != 3 && code != 1 || !strings.Contains(errs, `no source "wbe"`) || !strings.Contains(errs, "web") {
		t.Errorf("an unknown source: %d, %s", code, errs)
	}
}

func TestSourcesAsData(t *testing.T) {
	want := api.Sources{Sources: []api.Source{goodSource("web"), heldSource()}}
	for format, decode := range map[string]func([]byte, *api.Sources) error{
		"json": func(b []byte, into *api.Sources) error { return json.Unmarshal(b, into) },
		"yaml": func(b []byte, into *api.Sources) error { return yaml.Unmarshal(b, into) },
	} {
		_, out, _ := withSources(t, &sourceValues{all: want.Sources}, "sources", "-o", format)
		var got api.Sources
		if err := decode([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
	}
}

func TestAllow(t *testing.T) {
	v := &sourceValues{all: []api.Source{heldSource()}}
	id := strings.Repeat("b2", 20)
	if code, _, errs := withSources(t, v, "allow", "shop", id); code != 3 || !strings.Contains(errs, "a reason is missing") || v.asked != nil {
		t.Errorf("without a reason: %d, %s", code, errs)
	}
	if code, _, errs := withSources(t, v, "allow", "shop", id[:12], "--reason", "x"); code != 1 || !strings.Contains(errs, "holds is another") {
		t.Errorf("another revision: %d, %s", code, errs)
	}
	code, out, errs := withSources(t, v, "allow", "shop", id, "--reason", "a secret was taken out")
	if code != 0 || !strings.Contains(out, "main@b2b2b2b") {
		t.Errorf("allowed: %d, %s%s", code, out, errs)
	}
	if v.asked.Reason != "a secret was taken out" || !strings.HasPrefix(v.asked.Author, "ann (") {
		t.Errorf("asked for %+v", v.asked)
	}
	if code, _, _ := withSources(t, v, "allow", "nowhere", id, "--reason", "x"); code == 0 {
		t.Error("a source that there is not was allowed something")
	}
}
