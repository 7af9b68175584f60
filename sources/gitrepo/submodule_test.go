package gitrepo_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// gitmodules is the file for one submodule.
func gitmodules(path, url string) string {
	return fmt.Sprintf("[submodule %q]\n\tpath = %s\n\turl = %s\n", path, path, url)
}

func TestSubmodulesReadLikeFolders(t *testing.T) {
	f := newFixture(t)
	deep := f.server.Repo(t, "teams/deep")
	deepest := deep.Commit(t, sourcetest.Files{"d": "deep"})
	lib := f.server.Repo(t, "lib")
	old := lib.Commit(t, sourcetest.Files{
		"x": "1", "dir/y": "2", "dir/up": gitserver.Symlink("../../../a"),
		".gitmodules": gitmodules("nested/deep", "../teams/deep.git"), "nested/deep": gitserver.Submodule(deepest),
	})
	lib.Commit(t, sourcetest.Files{"x": "newer"})
	f.commit(t, sourcetest.Files{
		"a": "top", ".gitmodules": gitmodules("vendor/lib", "../lib.git"),
		"vendor/lib": gitserver.Submodule(old), "plain/b": "b",
	})
	r := f.open(t)
	tree := sourcetest.Fetch(t, r).Tree
	if n := f.server.Count("lib.git/info/refs"); n != 0 {
		t.Errorf("%d listings of a submodule that nobody has read", n)
	}
	for name, want := range map[string]string{
		"vendor/lib/x": "1\n", "vendor/lib/dir/y": "2\n", "vendor/lib/nested/deep/d": "deep\n",
		"vendor/lib/dir/up": "top\n", "plain/b": "b\n",
	} {
		got, err := tree.ReadFile(name)
		if err != nil || strings.TrimSuffix(string(got), "\n") != strings.TrimSuffix(want, "\n") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	sub, err := fs.Sub(tree, "vendor")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(sub, "lib/x", "lib/dir/y", "lib/nested/deep/d"); err != nil {
		t.Error(err)
	}
	f.server.Reset()
	again := f.open(t)
	last, err := again.Last()
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.WantFile(t, last, "vendor/lib/x", "1")
	last.Close()
	f.wantRequests(t, 0, 0)
}

func TestContentIDOfSubmodules(t *testing.T) {
	f := newFixture(t)
	lib := f.server.Repo(t, "lib")
	first := lib.Commit(t, sourcetest.Files{"x": "1", "same": "s", "link": gitserver.Symlink("../../a")})
	second := lib.Commit(t, sourcetest.Files{"x": "2"})
	f.commit(t, sourcetest.Files{"a": "1", "b/c": "1", ".gitmodules": gitmodules("v/lib", f.server.URL+"/lib.git"), "v/lib": gitserver.Submodule(first)})
	r := f.open(t)
	ids := func() map[string]string {
		out := map[string]string{}
		tree := sourcetest.Fetch(t, r).Tree
		for _, name := range []string{".", "v", "v/lib", "v/lib/x", "v/lib/same", "b"} {
			id, err := tree.ContentID(name)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = id
		}
		return out
	}
	changed := func(before, after map[string]string) (names []string) {
		for name := range before {
			if before[name] != after[name] {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	one := ids()
	f.commit(t, sourcetest.Files{"v/lib": gitserver.Submodule(second)})
	two := ids()
	if got := fmt.Sprint(changed(one, two)); got != "[. v v/lib v/lib/x]" {
		t.Errorf("another commit of the submodule changes %s", got)
	}
	// The link in the submodule leads to this file.
	f.commit(t, sourcetest.Files{"a": "2"})
	if got := fmt.Sprint(changed(two, ids())); got != "[. v v/lib]" {
		t.Errorf("what a link in the submodule leads to changes %s", got)
	}
}

func TestSubmodulesElsewhere(t *testing.T) {
	f := newFixture(t)
	f.server.RequireAuth("ada", "s3cret-word")
	other := gitserver.Start(t)
	lib := other.Repo(t, "lib")
	id := lib.Commit(t, sourcetest.Files{"x": "1"})
	f.commit(t, sourcetest.Files{".gitmodules": gitmodules("lib", lib.URL), "lib": gitserver.Submodule(id), "a": "1"})
	open := func(s gitrepo.Submodules) fs.FS {
		return sourcetest.Fetch(t, f.open(t, func(o *gitrepo.Options) {
			o.Username, o.Password, o.Submodules = "ada", "s3cret-word", s
		})).Tree
	}
	for mode, want := range map[gitrepo.Submodules]string{"": "on another host", gitrepo.SubmodulesHost: "on another host", gitrepo.SubmodulesOff: "submodules are not read"} {
		if _, err := fs.ReadFile(open(mode), "lib/x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("submodules %q: %v", mode, err)
		}
	}
	if n := len(other.Requests()); n != 0 {
		t.Fatalf("%d requests were sent to another host", n)
	}
	if _, err := fs.ReadFile(open(gitrepo.SubmodulesAny), "lib/x"); err != nil {
		t.Error(err)
	}
	for _, req := range other.Requests() {
		if req.User != "" || req.Password != "" {
			t.Errorf("credentials went to another host: %+v", req)
		}
	}
}

func TestSubmodulesOnTheHostGetCredentials(t *testing.T) {
	f := newFixture(t)
	id := f.server.Repo(t, "lib").Commit(t, sourcetest.Files{"x": "1"})
	f.commit(t, sourcetest.Files{".gitmodules": gitmodules("lib", "../lib.git"), "lib": gitserver.Submodule(id)})
	f.server.RequireAuth("ada", "s3cret-word")
	for name, change := range map[string]func(*gitrepo.Options){
		"options": func(o *gitrepo.Options) { o.Username, o.Password = "ada", "s3cret-word" },
		"url":     func(o *gitrepo.Options) { o.URL = strings.Replace(o.URL, "://", "://ada:s3cret-word@", 1) },
	} {
		r := f.open(t, change, func(o *gitrepo.Options) { o.Dir += name })
		sourcetest.WantFile(t, sourcetest.Fetch(t, r), "lib/x", "1")
	}
}

func TestSubmodulesThatCannotBeRead(t *testing.T) {
	absent := strings.Repeat("12", 20)
	for name, c := range map[string]struct{ file, want string }{
		"not named":        {gitmodules("other", "../lib.git"), "does not say where"},
		"malformed":        {"[submodule \"lib\"\npath = lib\n", "line 1: the section has no end"},
		"a local path":     {gitmodules("lib", "/etc"), "local paths"},
		"a file url":       {gitmodules("lib", "file:///etc"), "file:// urls are not supported"},
		"a program":        {gitmodules("lib", "ext::sh -c id"), "on another host"},
		"an option":        {gitmodules("lib", "--upload-pack=id"), "names no protocol"},
		"out of server":    {gitmodules("lib", "../../../../x.git"), "leads out of the server"},
		"a missing commit": {gitmodules("lib", "../lib.git"), absent},
		"a missing one":    {gitmodules("lib", "../absent.git"), "repository not found"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.server.Repo(t, "lib").Commit(t, sourcetest.Files{"x": "1"})
			f.commit(t, sourcetest.Files{".gitmodules": c.file, "lib": gitserver.Submodule(absent), "a": "1"})
			snap := sourcetest.Fetch(t, f.open(t))
			sourcetest.WantFile(t, snap, "a", "1")
			_, err := snap.Tree.ReadFile("lib/x")
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "lib/x") {
				t.Errorf("error %v does not say %q", err, c.want)
			}
		})
	}
}

// A repository that holds itself must not be followed for ever.
func TestSubmodulesInCircles(t *testing.T) {
	f := newFixture(t)
	id := f.commit(t, sourcetest.Files{"x": "1"})
	for range 6 {
		id = f.commit(t, sourcetest.Files{".gitmodules": gitmodules("self", "./"), "self": gitserver.Submodule(id)})
	}
	snap := sourcetest.Fetch(t, f.open(t))
	sourcetest.WantFile(t, snap, "self/self/self/self/x", "1")
	_, err := snap.Tree.ReadFile("self/self/self/self/self/x")
	if err == nil || !strings.Contains(err.Error(), "nested more than 4 deep") {
		t.Errorf("error: %v", err)
	}
}

// A snapshot outlives the source that it is of, with all its submodules.
func TestSubmoduleAfterTheSourceWasClosed(t *testing.T) {
	f := newFixture(t)
	id := f.server.Repo(t, "lib").Commit(t, sourcetest.Files{"x": "1"})
	f.commit(t, sourcetest.Files{".gitmodules": gitmodules("lib", "../lib.git"), "lib": gitserver.Submodule(id)})
	r := f.open(t)
	other := r.At("main")
	snap := sourcetest.Fetch(t, other)
	other.Close()
	r.Close()
	sourcetest.WantFile(t, snap, "lib/x", "1")
}

func TestSubmoduleIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	id := f.server.Repo(t, "lib").Commit(t, sourcetest.Files{"x": "1"})
	f.commit(t, sourcetest.Files{".gitmodules": gitmodules("lib", "../lib.git"), "lib": gitserver.Submodule(id)})
	snap := sourcetest.Fetch(t, f.open(t))
	f.server.SetFault(gitserver.Status(503))
	if _, err := snap.Tree.ReadFile("lib/x"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("error: %v", err)
	}
	f.server.SetFault(nil)
	sourcetest.WantFile(t, snap, "lib/x", "1")
	snap.Close()
	if _, err := snap.Tree.ReadFile("lib/x"); err == nil {
		t.Error("a closed snapshot gives a file of a submodule")
	}
}
