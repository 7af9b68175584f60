package gitrepo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// gate holds requests up: each that comes is told of, and waits to be let on.
type gate struct {
	came chan struct{}
	pass chan struct{}
}

func (g *gate) fault(w http.ResponseWriter, r *http.Request, git http.Handler) {
	g.came <- struct{}{}
	select {
	case <-g.pass:
		git.ServeHTTP(w, r)
	case <-r.Context().Done():
	}
}

// Who asks while a listing is under way shares the next one, with all others
// who do; none is answered by what began before he asked.
func TestListingsAreShared(t *testing.T) {
	f := newFixture(t)
	first := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.CommitTo(t, "refs/heads/next", first, sourcetest.Files{"a": "2"})
	repos := []*gitrepo.Repo{f.open(t), f.open(t, ref("next")), f.open(t), f.open(t).At("next")}
	t.Cleanup(repos[3].Close)
	g := &gate{came: make(chan struct{}, 100), pass: make(chan struct{})}
	f.server.SetFault(g.fault)

	var asking sync.WaitGroup
	ids := make([]string, 21)
	ask := func(i int) {
		asking.Go(func() {
			head, err := repos[i%len(repos)].Head(t.Context())
			if err != nil {
				t.Error(err)
			}
			ids[i] = head.ID
		})
	}
	ask(0)
	<-g.came // the first listing is with the server, and will answer alone
	second := f.commit(t, sourcetest.Files{"a": "3"})
	for i := 1; i < len(ids); i++ {
		ask(i)
	}
	gitrepo.WaitForSharers(repos[0], len(ids))
	close(g.pass)
	asking.Wait()
	if n := f.server.Count("info/refs"); n != 2 {
		t.Errorf("%d asks cost %d listings", len(ids), n)
	}
	for i, id := range ids[1:] {
		if i := i + 1; i%2 == 0 && id != second {
			t.Errorf("ask %d was answered by a listing that began before it", i)
		}
	}
}

// A listing goes on for the others when the one who began it gives up, and ends
// when all have.
func TestSharersComeAndGo(t *testing.T) {
	f := newFixture(t)
	want := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	g := &gate{came: make(chan struct{}, 10), pass: make(chan struct{})}
	f.server.SetFault(g.fault)
	before := time.Now()
	leaving, leave := context.WithCancel(gitrepo.Asked(t.Context(), before))
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, err := r.Head(leaving); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left was answered: %v", err)
		}
	})
	<-g.came
	asking.Go(func() {
		head, err := r.Head(gitrepo.Asked(t.Context(), before))
		if err != nil || head.ID != want {
			t.Errorf("the one who stayed: %v, %v", head, err)
		}
	})
	gitrepo.WaitForSharers(r, 2)
	leave()
	gitrepo.WaitForSharers(r, 1)
	close(g.pass)
	asking.Wait()
	if n := f.server.Count("info/refs"); n != 1 {
		t.Errorf("%d listings", n)
	}

	g.pass = make(chan struct{})
	leaving, leave = context.WithCancel(t.Context())
	asking.Go(func() { _, _ = r.Head(leaving) })
	<-g.came
	leave()
	asking.Wait() // joined: the request has ended, as the leak test at the end proves
	f.server.SetFault(nil)
	if _, err := r.Head(t.Context()); err != nil {
		t.Errorf("after all had left: %v", err)
	}
}

// One look at many refs costs one listing.
func TestManyRefsCostOneListing(t *testing.T) {
	f := newFixture(t)
	base := f.commit(t, sourcetest.Files{"a": "main"})
	for _, name := range []string{"refs/heads/pr/1", "refs/heads/pr/2", "refs/heads/other"} {
		f.origin.CommitTo(t, name, base, sourcetest.Files{"a": name})
	}
	f.origin.Tag(t, "v1", base, "annotated")
	r := f.open(t)
	asked := time.Now()
	f.server.Reset()
	ctx := gitrepo.Asked(t.Context(), asked)
	for range 2 {
		refs, err := r.Refs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, one := range refs {
			names = append(names, one.Name)
			if one.Name == "refs/tags/v1" && one.Hash != base {
				t.Errorf("the tag stands for %s", one.Hash)
			}
			if !strings.HasPrefix(one.Name, "refs/heads/") {
				continue
			}
			at := r.At(one.Name)
			snap, err := at.Fetch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if snap.Revision.ID != one.Hash || snap.Revision.Ref != one.Name || snap.Source != "web" {
				t.Errorf("%+v gave %+v", one, snap.Revision)
			}
			snap.Close()
			at.Close()
		}
		want := []string{"refs/heads/main", "refs/heads/other", "refs/heads/pr/1", "refs/heads/pr/2", "refs/tags/v1"}
		if !slices.Equal(names, want) {
			t.Errorf("refs are %q", names)
		}
	}
	if n, m := f.server.Count("info/refs"), f.server.Count("git-upload-pack"); n != 1 || m != 4 {
		t.Errorf("4 branches, looked at twice, cost %d listings and %d downloads", n, m)
	}
	// A moment after the listing is not answered by it.
	if _, err := r.Refs(gitrepo.Asked(t.Context(), time.Now())); err != nil || f.server.Count("info/refs") != 2 {
		t.Errorf("%v, %d listings", err, f.server.Count("info/refs"))
	}
}

// What a Repo gave is usable after its siblings were closed, and the other way
// round.
func TestAtOutlivesItsOrigin(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	at := r.At("main")
	t.Cleanup(at.Close)
	sourcetest.Fetch(t, r)
	r.Close()
	sourcetest.WantFile(t, sourcetest.Fetch(t, at), "a", "1")
}

// Other credentials are another remote: their listing is their own.
func TestCredentialsAreNotShared(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	f.server.RequireAuth("ada", "right")
	right := f.open(t, func(o *gitrepo.Options) { o.Username, o.Password = "ada", "right" })
	wrong := f.open(t, func(o *gitrepo.Options) { o.Username, o.Password = "ada", "wrong" })
	asked := gitrepo.Asked(t.Context(), time.Now())
	if _, err := right.Head(asked); err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Head(asked); !errors.Is(err, gitrepo.ErrAuth) {
		t.Errorf("the wrong password was answered by the listing of the right one: %v", err)
	}
	one := gitrepo.Options{URL: "https://ann:secret@host/x", PasswordFile: "a"}
	same := gitrepo.Options{Name: "other", Ref: "main", URL: "https://ann:other@host/x", PasswordFile: "a", Dir: "x"}
	if one.Identity() != same.Identity() {
		t.Error("a password is part of the identity")
	}
	for _, other := range []gitrepo.Options{
		{URL: "https://host/x", PasswordFile: "a"},
		{URL: "https://ann@host/y", PasswordFile: "a"},
		{URL: "https://ann@host/x", PasswordFile: "b"},
		{URL: "https://ann@host/x", PasswordFile: "a", GitHubApp: &gitrepo.GitHubApp{ID: "1"}},
		{URL: "https://ann@host/x", PasswordFile: "a", SSH: gitrepo.SSH{KeyFiles: []string{"k"}}},
	} {
		if one.Identity() == other.Identity() {
			t.Errorf("%+v counts as the same", other)
		}
	}
	if id := one.Identity(); !filepath.IsLocal(id) || len(id) != 16 {
		t.Errorf("%q is no name for a folder", id)
	}
}

// Servers that insist on detailed acknowledgements get the question for them,
// and what they answer is understood.
func TestServerThatInsistsOnMultiACK(t *testing.T) {
	for _, way := range []string{"multi_ack_detailed", "multi_ack", ""} {
		t.Run(way, func(t *testing.T) {
			f := newFixture(t)
			first := f.commit(t, sourcetest.Files{"a": "1", "dir/b": "1"})
			f.server.SetFault(insist(t, way))
			r := f.open(t)
			sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
			for _, content := range []string{"2", "3", "4"} {
				f.commit(t, sourcetest.Files{"a": content})
				sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", content)
			}
			f.origin.ForcePush(t, gitserver.Main, first)
			sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
		})
	}
}

// insist offers only one way of acknowledging what is at hand, and refuses
// whoever does not use it.
func insist(t *testing.T, way string) gitserver.Fault {
	return func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		if strings.HasSuffix(r.URL.Path, "info/refs") {
			rec := httptest.NewRecorder()
			git.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			hide := func(name string) { // by a name of the same length that nobody knows
				body = bytes.Replace(body, []byte(name), []byte(strings.Replace(name, "ack", "xxx", 1)), 1)
			}
			switch way {
			case "multi_ack":
				hide(" multi_ack_detailed")
			case "":
				hide(" multi_ack_detailed")
				hide("\x00multi_ack ")
			}
			w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			_, _ = w.Write(body)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		used := ""
		if i := bytes.Index(body, []byte(" multi_ack")); i >= 0 {
			used = strings.Fields(string(body[i:]))[0]
		}
		if used != way {
			http.Error(w, "this server wants "+way, http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		git.ServeHTTP(w, r)
	}
}
