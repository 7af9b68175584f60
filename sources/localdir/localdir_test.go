package localdir_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string, change ...func(*localdir.Options)) *localdir.Dir {
	t.Helper()
	o := localdir.Options{Name: "local", Dir: dir, Backstop: time.Hour, Settle: 5 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	d, err := localdir.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t *testing.T, dir string, files sourcetest.Files) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if content == gitserver.Delete {
			check(os.RemoveAll(path))
			continue
		}
		check(os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(content, gitserver.Symlink("")); ok {
			check(os.Symlink(target, path))
			continue
		}
		mode := os.FileMode(0o644)
		if text, ok := strings.CutPrefix(content, gitserver.Executable("")); ok {
			mode, content = 0o755, text
		}
		// As editors do: write beside, then move in place.
		tmp := filepath.Join(t.TempDir(), "new")
		check(os.WriteFile(tmp, []byte(content), mode))
		check(os.Rename(tmp, path))
	}
}

func TestLaws(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness {
		dir := t.TempDir()
		return sourcetest.Harness{
			Write: func(t *testing.T, files sourcetest.Files) { write(t, dir, files) },
			Open:  func(t *testing.T) sourcetest.Source { return open(t, dir) },
			Names: dir,
			Break: func(t *testing.T) func() {
				if err := os.Rename(dir, dir+".away"); err != nil {
					t.Fatal(err)
				}
				return func() {
					if err := os.Rename(dir+".away", dir); err != nil {
						t.Fatal(err)
					}
				}
			},
		}
	})
}

func TestGitFolderDoesNotCount(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, sourcetest.Files{"a": "1", ".git/HEAD": "x"})
	d := open(t, dir)
	one := sourcetest.Fetch(t, d)
	write(t, dir, sourcetest.Files{".git/HEAD": "y"})
	if two := sourcetest.Fetch(t, d); one.Revision != two.Revision {
		t.Error("a change in .git changed the revision")
	}
	if _, err := one.Tree.Stat(".git"); !os.IsNotExist(err) {
		t.Errorf("stat .git: %v", err)
	}
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, sourcetest.Files{"a": "12345", "b": "12345", "c/d": "1"})
	for name, tc := range map[string]struct {
		change func(*localdir.Options)
		want   string
	}{
		"file":  {func(o *localdir.Options) { o.MaxFileBytes = 4 }, "more than the limit of 4"},
		"bytes": {func(o *localdir.Options) { o.MaxBytes = 9 }, "more than 9 bytes"},
		"files": {func(o *localdir.Options) { o.MaxFiles = 2 }, "more than 2 files"},
	} {
		if _, err := open(t, dir, tc.change).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissingFolderIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := open(t, dir).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("fetch: %v", err)
	}
	if _, err := localdir.Open(localdir.Options{Name: "x"}); err == nil {
		t.Error("a source without a folder was opened")
	}
}

func TestUnreadableFileIsAnError(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	dir := t.TempDir()
	write(t, dir, sourcetest.Files{"a": "1"})
	if err := os.Chmod(filepath.Join(dir, "a"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Fetch(t.Context()); err == nil {
		t.Error("an unreadable file was left out")
	}
}

// volume swaps the content of a ConfigMap's volume as the kubelet does.
func volume(t *testing.T, dir, stamp string, files sourcetest.Files) {
	t.Helper()
	versioned := sourcetest.Files{}
	for name, content := range files {
		versioned[".."+stamp+"/"+name] = content
	}
	write(t, dir, versioned)
	tmp := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(".."+stamp, tmp); err != nil {
		t.Fatal(err)
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if _, err := os.Lstat(filepath.Join(dir, name)); os.IsNotExist(err) {
			write(t, dir, sourcetest.Files{name: gitserver.Symlink("..data/" + name)})
		}
	}
	if old != "" {
		write(t, dir, sourcetest.Files{old: gitserver.Delete})
	}
}

func TestConfigMapVolume(t *testing.T) {
	dir := t.TempDir()
	volume(t, dir, "2026_01_01", sourcetest.Files{"a.yaml": "1", "b.yaml": "1"})
	d := open(t, dir)
	one := sourcetest.Fetch(t, d)
	sourcetest.WantFile(t, one, "a.yaml", "1")
	entries, err := one.Tree.ReadDir(".")
	if err != nil || len(entries) != 2 {
		t.Errorf("the volume lists %v, %v", entries, err)
	}
	volume(t, dir, "2026_01_02", sourcetest.Files{"a.yaml": "1", "b.yaml": "1"})
	if two := sourcetest.Fetch(t, d); two.Revision != one.Revision {
		t.Error("a swap to equal content changed the revision")
	}
	volume(t, dir, "2026_01_03", sourcetest.Files{"a.yaml": "2", "b.yaml": "1"})
	three := sourcetest.Fetch(t, d)
	if three.Revision == one.Revision {
		t.Error("a swap to other content did not change the revision")
	}
	sourcetest.WantFile(t, three, "a.yaml", "2")
	sourcetest.WantFile(t, one, "a.yaml", "1")
}

// watch runs Watch until the test ends and gives a function that waits for the
// next call of changed.
func watch(t *testing.T, d *localdir.Dir) (next func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	calls, done := make(chan struct{}, 100), make(chan error, 1)
	go func() { done <- d.Watch(ctx, func() { calls <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return func() {
		t.Helper()
		select {
		case <-calls:
		case <-time.After(10 * time.Second):
			t.Fatal("the change was not seen")
		}
	}
}

func TestWatchSeesEditsMovesAndRemovals(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, sourcetest.Files{"a": "1", "sub/b": "1"})
	d := open(t, dir)
	sourcetest.Fetch(t, d)
	next := watch(t, d)
	for _, change := range []sourcetest.Files{
		{"a": "2"}, {"sub/b": "2"}, {"new/deep/c": "1"}, {"new/deep/c": "2"},
		{"sub": gitserver.Delete}, {"sub/b": "3"}, {"sub/b": "4"},
	} {
		write(t, dir, change)
		next()
	}
}

func TestWatchSeesSwaps(t *testing.T) {
	t.Run("of a volume", func(t *testing.T) {
		dir := t.TempDir()
		volume(t, dir, "1", sourcetest.Files{"a": "1"})
		d := open(t, dir)
		sourcetest.Fetch(t, d)
		next := watch(t, d)
		for _, n := range []string{"2", "3"} {
			volume(t, dir, n, sourcetest.Files{"a": n})
			next()
		}
	})
	t.Run("of the folder itself", func(t *testing.T) {
		base := t.TempDir()
		write(t, base, sourcetest.Files{"one/a": "1", "two/a": "2", "current": gitserver.Symlink("one")})
		d := open(t, filepath.Join(base, "current"))
		sourcetest.Fetch(t, d)
		next := watch(t, d)
		write(t, base, sourcetest.Files{"next": gitserver.Symlink("two")})
		if err := os.Rename(filepath.Join(base, "next"), filepath.Join(base, "current")); err != nil {
			t.Fatal(err)
		}
		next()
		write(t, base, sourcetest.Files{"two/a": "3"})
		next()
		sourcetest.WantFile(t, sourcetest.Fetch(t, d), "a", "3")
	})
}

func TestWatchTellsWhatChangedBeforeIt(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, sourcetest.Files{"a": "1"})
	d := open(t, dir)
	sourcetest.Fetch(t, d)
	write(t, dir, sourcetest.Files{"a": "2"})
	watch(t, d)()
}

func TestWatchLooksForItself(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, sourcetest.Files{"a": "1"})
	d := open(t, dir, func(o *localdir.Options) {
		o.Settle, o.MaxDelay, o.Backstop = time.Hour, time.Hour, 10*time.Millisecond
	})
	sourcetest.Fetch(t, d)
	next := watch(t, d)
	write(t, dir, sourcetest.Files{"a": "2"})
	next()
}
