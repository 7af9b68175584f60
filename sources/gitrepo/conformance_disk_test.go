package gitrepo_test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

var diskCases = append(damageCases(), []aCase{
	{name: "mirror wiped", run: mirrorWiped},
	{name: "mirror damaged while it is read", run: snapshotOutlives},
	{name: "source opened anew while it is read", run: reopened},
	{name: "leftovers of a crash", run: leftovers, http: true},
	{name: "the data directory is a file", run: dirIsAFile},
	{name: "disk full at any point of a fetch", run: diskFull, http: true},
	{name: "killed at any point of a first fetch", run: func(t *testing.T, f *fixture) { killed(t, f, true) }, http: true},
	{name: "killed at any point of a later fetch", run: func(t *testing.T, f *fixture) { killed(t, f, false) }, http: true},
}...)

// damageCases do something to each file of a mirror in turn: the next fetch
// gives the right content, in the same process and in the next.
func damageCases() (cases []aCase) {
	for name, damage := range sourcetest.Damages() {
		for when, restart := range map[string]bool{"in use": false, "before a start": true} {
			cases = append(cases, aCase{
				name: "each file of a mirror " + name + " " + when,
				run:  func(t *testing.T, f *fixture) { damaged(t, f, damage, restart) },
			})
		}
	}
	return cases
}

func damaged(t *testing.T, f *fixture, damage func(string) error, restart bool) {
	f.commit(t, sourcetest.Files{"a": "0", "b/c": "0"})
	files := 1
	for i := 0; i < files; i++ {
		r := f.open(t)
		sourcetest.Fetch(t, r).Close()
		commit := f.commit(t, sourcetest.Files{"a": fmt.Sprint(i)})
		sourcetest.Fetch(t, r).Close()
		names := mirrorFiles(t, f.dir)
		files = len(names)
		if restart {
			r.Close()
		}
		if err := damage(names[i]); err != nil {
			t.Fatal(err)
		}
		if restart {
			r = f.open(t)
		}
		snap, err := r.Fetch(t.Context())
		if err != nil {
			t.Fatalf("fetch after the damage of %s: %v", filepath.Base(names[i]), err)
		}
		if snap.Revision.ID != commit {
			t.Errorf("fetched %s, want %s", snap.Revision.ID, commit)
		}
		sourcetest.WantFile(t, snap, "a", fmt.Sprint(i))
		wantWhole(t, snap)
		snap.Close()
		r.Close()
	}
	if files < 5 {
		t.Errorf("only %d files were damaged, and two packs, their indexes and the record are five", files)
	}
	if n := len(generations(t, f.dir)); n != 1 {
		t.Errorf("%d generations are left", n)
	}
}

func dirIsAFile(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	if err := os.WriteFile(f.dir, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := f.open(t)
	snap, err := r.Fetch(t.Context())
	if err == nil {
		snap.Close()
		t.Fatal("the fetch succeeded")
	}
	if !strings.Contains(err.Error(), f.dir) || !strings.Contains(err.Error(), "data directory") {
		t.Errorf("the error does not name the directory: %v", err)
	}
	if err := os.Remove(f.dir); err != nil {
		t.Fatal(err)
	}
	wantFetched(t, r, commit)
}

// The environment of a child process, which is this test program again: the
// folder of the mirror, the repository, and how large files may become.
const (
	childDir   = "HOLDFAST_TEST_CHILD_DIR"
	childURL   = "HOLDFAST_TEST_CHILD_URL"
	childLimit = "HOLDFAST_TEST_CHILD_LIMIT"
)

// child fetches once and says what came of it.
func child(dir string) int {
	if text := os.Getenv(childLimit); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			panic(err)
		}
		// What is written beyond it is an error then, as on a full disk, instead
		// of the end of the process.
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			panic(err)
		}
	}
	r, err := gitrepo.Open(gitrepo.Options{Name: "web", URL: os.Getenv(childURL), Ref: "main", Dir: dir})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	fmt.Println("begin")
	snap, err := r.Fetch(context.Background())
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	defer snap.Close()
	fmt.Println("fetched", snap.Revision.ID)
	return 0
}

// inChild fetches in a child process. Once that has begun, it is killed after a
// delay, unless that is 0. It answers the child's last line, empty if it was
// killed before, and how long it took.
func (f *fixture) inChild(t *testing.T, limit string, kill time.Duration) (said string, took time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+f.dir, childURL+"="+f.origin.URL, childLimit+"="+limit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "begin" {
		_ = cmd.Wait() // why it did not begin is in its output
		t.Fatalf("the child did not begin: %q %s", lines.Text(), stderr.String())
	}
	began := time.Now()
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() }) // fails if it has ended
		defer timer.Stop()
	}
	for lines.Scan() {
		said = lines.Text()
	}
	_ = cmd.Wait() // that it was killed is what is wanted
	return said, time.Since(began)
}

// diskFull limits how large files may become, from nothing on up to what the
// mirror's largest file needs: the error blames the disk and nobody else, the
// last good commit stays, and nothing is left behind.
func diskFull(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1", "noise": randomText(3000)})
	r := f.open(t)
	wantFetched(t, r, first)
	r.Close()
	next := f.commit(t, sourcetest.Files{"b": randomText(4000), "c": randomText(2000)})
	for _, limit := range []string{"0", "100", "800", "1100", "4000", "6000"} {
		said, _ := f.inChild(t, limit, 0)
		if !strings.Contains(said, "web.git: write the mirror:") || !strings.Contains(said, "file too large") || !strings.Contains(said, "check space") {
			t.Errorf("with files of %s bytes: %q", limit, said)
		}
		r := f.open(t)
		wantLast(t, r, first)
		r.Close()
		if tmp, _ := filepath.Glob(filepath.Join(f.dir, "gen-*", "tmp-*")); len(tmp) != 0 {
			t.Errorf("left behind: %v", tmp)
		}
	}
	if said, _ := f.inChild(t, "100000", 0); said != "fetched "+next {
		t.Errorf("with enough room: %q", said)
	}
	if n := len(generations(t, f.dir)); n != 1 {
		t.Errorf("%d generations are left", n)
	}
}

// killed kills a fetch at points spread over its whole length: what is in force
// afterwards is the commit before or the new one, whole, and the next fetch
// gives the new one and clears up.
func killed(t *testing.T, f *fixture, anew bool) {
	points := 6
	if os.Getenv("HOLDFAST_LONG") != "" {
		points = 300
	}
	files := sourcetest.Files{}
	for i := range 200 {
		files[fmt.Sprintf("d%d/f%d", i%10, i)] = randomText(100 + i)
	}
	before := f.commit(t, files)
	if !anew {
		wantChild(t, f, before)
	}
	commit := f.commit(t, changed(files, 0))
	home := f.dir
	f.dir = filepath.Join(t.TempDir(), "measure")
	_, whole := f.inChild(t, "", 0)
	f.dir = home
	cut := 0
	for i := range points {
		if anew {
			f.dir, before = filepath.Join(home, fmt.Sprint(i)), ""
		}
		said, took := f.inChild(t, "", time.Duration(i+1)*whole/time.Duration(points))
		if said == "" {
			cut++
		} else {
			whole = min(whole, took) // something else slowed the measured one down
		}
		r := f.open(t)
		wantEither(t, r, before, commit)
		wantFetched(t, r, commit).Close()
		r.Close()
		if tmp, _ := filepath.Glob(filepath.Join(f.dir, "gen-*", "tmp-*")); len(tmp) != 0 {
			t.Errorf("left behind after point %d: %v", i, tmp)
		}
		if n := len(generations(t, f.dir)); n != 1 {
			t.Errorf("%d generations are left after point %d", n, i)
		}
		if !anew {
			before, commit = commit, f.commit(t, changed(files, i+1))
		}
	}
	if cut == 0 {
		t.Error("no fetch was killed before its end")
	}
}

func changed(files sourcetest.Files, n int) sourcetest.Files {
	out := sourcetest.Files{}
	for i := range len(files) / 2 {
		out[fmt.Sprintf("d%d/f%d", i%10, i)] = randomText(120 + i + n)
	}
	return out
}

func wantChild(t *testing.T, f *fixture, commit string) {
	t.Helper()
	if said, _ := f.inChild(t, "", 0); said != "fetched "+commit {
		t.Fatalf("the child said %q", said)
	}
}

// wantEither checks that the last good commit is one of two, and whole; none is
// allowed where there was none before.
func wantEither(t *testing.T, r *gitrepo.Repo, before, after string) {
	t.Helper()
	last, err := r.Last()
	if err != nil {
		if before != "" || !strings.Contains(err.Error(), fs.ErrNotExist.Error()) {
			t.Errorf("last: %v", err)
		}
		return
	}
	defer last.Close()
	if id := last.Revision.ID; id != after && (before == "" || id != before) {
		t.Errorf("last is %s, and neither %q nor %s", id, before, after)
	}
	wantWhole(t, last)
}
