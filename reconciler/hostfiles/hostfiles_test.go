package hostfiles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// bench is a target in a directory of its own.
type bench struct {
	*testing.T
	dir    string
	target *Target
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, dir: t.TempDir()}
	b.reopen()
	return b
}

// reopen is a start of the daemon: all that was in memory is gone.
func (b *bench) reopen() {
	b.Helper()
	if b.target != nil {
		b.target.release()
	}
	var err error
	b.target, err = Open(Options{
		Name: "host", Dir: b.dir, Installation: "holdfast", Key: []byte("0123456789abcdef0123456789abcdef"), Interval: time.Hour,
		Failed: func(err error) { b.Log(err) },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(b.target.release)
}

// file is an item; spec is the rest of its spec as JSON fields.
func file(name, spec string) sources.Item {
	id := sources.ID{Group: Group, Kind: Kind, Name: name}
	if ns, n, ok := strings.Cut(name, "/"); ok {
		id.Namespace, id.Name = ns, n
	}
	body := fmt.Sprintf(`{"apiVersion":"%s/%s","kind":"File","metadata":{"name":%q},"spec":{%s}}`, Group, Version, id.Name, spec)
	return sources.NewItem(id, Version, sources.Origin{File: "files.yaml", Line: 3}, []byte(body), false)
}

func text(name, content string) sources.Item {
	return file(name, fmt.Sprintf(`"content":%q`, content))
}

func annotated(item sources.Item, key, value string) sources.Item {
	body := strings.Replace(string(item.Body), `"metadata":{`, fmt.Sprintf(`"metadata":{"annotations":{%q:%q},`, key, value), 1)
	return sources.NewItem(item.ID, item.Version, item.Origin, []byte(body), item.Sensitive)
}

// compare is the comparison of one environment.
func (b *bench) compare(want []sources.Item, edit ...func(*reconciler.Scope)) []reconciler.Operation {
	b.Helper()
	scope := reconciler.Scope{Environment: "web", Source: "shop"}
	for _, e := range edit {
		e(&scope)
	}
	ops, err := b.target.Compare(b.Context(), want, scope)
	if err != nil {
		b.Fatal(err)
	}
	return ops
}

// apply brings an environment about, whatever it deletes.
func (b *bench) apply(want []sources.Item, edit ...func(*reconciler.Scope)) []reconciler.Outcome {
	b.Helper()
	scope := reconciler.Scope{Environment: "web", Source: "shop"}
	for _, e := range edit {
		e(&scope)
	}
	ops := b.compare(want, edit...)
	plan := reconciler.Plan{Environment: scope.Environment, Operations: ops}
	var out []reconciler.Outcome
	if err := b.target.Apply(b.Context(), plan, func(o reconciler.Outcome) { out = append(out, o) }); err != nil {
		b.Fatal(err)
	}
	return out
}

// said is operations in short: "kind name: error".
func said(ops []reconciler.Operation) string {
	var out []string
	for _, op := range ops {
		line := string(op.Kind) + " " + op.Object.Name
		if op.Err != nil {
			line += ": " + op.Err.Error()
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func (b *bench) expect(ops []reconciler.Operation, want ...string) {
	b.Helper()
	if got := said(ops); got != strings.Join(want, "\n") {
		b.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func (b *bench) succeed(out []reconciler.Outcome) {
	b.Helper()
	for _, o := range out {
		if o.Err != nil {
			b.Errorf("%s %s: %v", o.Operation.Kind, o.Operation.Object, o.Err)
		}
	}
}

func (b *bench) path(p string) string { return filepath.Join(b.dir, filepath.FromSlash(p)) }

func (b *bench) read(p string) string {
	b.Helper()
	data, err := os.ReadFile(b.path(p))
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}

func (b *bench) write(p, content string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(p)), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(b.path(p), []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// tree is every file and folder of ours but the records.
func (b *bench) tree() string {
	b.Helper()
	var out []string
	b.must(filepath.WalkDir(b.dir, func(p string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(b.dir, p)
		switch {
		case err != nil:
			return err
		case rel == stateDir:
			return fs.SkipDir
		case rel != ".":
			out = append(out, rel)
		}
		return nil
	}))
	return strings.Join(out, " ")
}

func TestFilesAreWrittenKeptAndPruned(t *testing.T) {
	b := newBench(t)
	want := []sources.Item{
		text("motd", "hello\n"),
		file("site", `"path":"nginx/sites/a.conf","mode":"0600","content":"server {}\n"`),
		file("logo", `"path":"logo.bin","contentBase64":"AAEC"`),
		text("nginx/other", "in a namespace"),
	}
	b.expect(b.compare(want), "create logo", "create motd", "create site", "create other")
	b.succeed(b.apply(want))
	if b.read("motd") != "hello\n" || b.read("logo.bin") != "\x00\x01\x02" || b.read("nginx/other") != "in a namespace" {
		t.Error("contents are wrong")
	}
	if info, err := os.Stat(b.path("nginx/sites/a.conf")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for range 2 {
		b.expect(b.compare(want), "unchanged logo", "unchanged motd", "unchanged site", "unchanged other")
		b.reopen()
	}
	want[0] = text("motd", "hello again\n")
	b.expect(b.compare(want[:1]), "delete logo", "update motd", "delete site", "delete other")
	b.succeed(b.apply(want[:1]))
	if got := b.tree(); got != "motd" || b.read("motd") != "hello again\n" {
		t.Errorf("left are %s", got)
	}
	if r := b.target.Report(); r.Driver != "files" || r.Address != b.path(".") || len(r.Watches) != 1 {
		t.Errorf("the target says of itself %+v", r)
	}
}

func TestEveryDriftIsNamedAndPutBack(t *testing.T) {
	b := newBench(t)
	want := []sources.Item{file("a", `"path":"etc/a","mode":"0640","content":"one\ntwo\nthree\n"`)}
	b.succeed(b.apply(want))
	for name, tt := range map[string]struct {
		spoil  func()
		class  drift.Class
		change string
	}{
		"edited":          {func() { b.write("etc/a", "one\n2\nthree\n") }, drift.Changed, `.spec.content[line 2] "two\n" <- "2\n"`},
		"appended":        {func() { b.write("etc/a", "one\ntwo\nthree\nfour\n") }, drift.Changed, `.spec.content[line 4] "" <- "four\n"`},
		"binary":          {func() { b.write("etc/a", "\x00\xff") }, drift.Changed, `.spec.content "14 bytes, sha256`},
		"emptied":         {func() { b.write("etc/a", "") }, drift.Changed, `.spec.content[line 1] "one\ntwo\nthree\n" <- ""`},
		"deleted":         {func() { b.must(os.Remove(b.path("etc/a"))) }, drift.Missing, `"present" <- (absent)`},
		"folder deleted":  {func() { b.must(os.RemoveAll(b.path("etc"))) }, drift.Missing, `"present" <- (absent)`},
		"mode":            {func() { b.must(os.Chmod(b.path("etc/a"), 0o666)) }, drift.Changed, `.spec.mode "0640" <- "0666"`},
		"setuid":          {func() { b.must(os.Chmod(b.path("etc/a"), 0o640|fs.ModeSetuid)) }, drift.Changed, `.spec.mode "0640" <- "0640 with u`},
		"replaced":        {func() { b.write("etc/b", "x"); b.must(os.Rename(b.path("etc/b"), b.path("etc/a"))) }, drift.Changed, `<- "x"`},
		"made a link":     {func() { b.must(os.Remove(b.path("etc/a"))); b.must(os.Symlink("/etc/passwd", b.path("etc/a"))) }, drift.Changed, `"a file" <- "a symbolic link"`},
		"larger than any": {func() { b.must(os.Truncate(b.path("etc/a"), maxRead+1)) }, drift.Changed, `<- "8388609 bytes"`},
	} {
		t.Run(name, func(t *testing.T) {
			tt.spoil()
			ops := b.compare(want, func(s *reconciler.Scope) { s.Partial = true })
			if len(ops) != 1 || ops[0].Kind != reconciler.OpCorrect || ops[0].Class != tt.class || len(ops[0].Changes) == 0 {
				t.Fatalf("%s: %+v", said(ops), ops)
			}
			c := ops[0].Changes[0]
			if got := strings.TrimSpace(fmt.Sprintf("%s %s <- %s", c.Path, c.Desired, c.Live)); !strings.Contains(got, tt.change) || c.Manager != drift.Unknown {
				t.Errorf("change %s by %s; want %s", got, c.Manager, tt.change)
			}
			b.succeed(b.apply(want))
			info, err := os.Lstat(b.path("etc/a"))
			if err != nil || info.Mode() != 0o640 || b.read("etc/a") != "one\ntwo\nthree\n" {
				t.Errorf("put back: %v, %v", info, err)
			}
			b.expect(b.compare(want), "unchanged a")
		})
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error("a link was followed")
	}
}

func TestOwnersArePutBack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give files away")
	}
	b := newBench(t)
	want := []sources.Item{file("a", `"owner":"1234:4321","content":"x"`)}
	b.succeed(b.apply(want))
	b.must(os.Chown(b.path("a"), 0, 0))
	ops := b.compare(want)
	b.expect(ops, "correct a")
	if c := ops[0].Changes[0]; c.Path != fieldOwner || c.Desired.String() != `"1234:4321"` || !strings.Contains(c.Live.String(), "root:") {
		t.Errorf("change %+v", c)
	}
	b.succeed(b.apply(want))
	b.expect(b.compare(want), "unchanged a")
}

func TestWhatIsNotOursIsAConflict(t *testing.T) {
	b := newBench(t)
	b.write("a", "somebody's")
	b.write("folder/x", "somebody's")
	b.must(os.Symlink("a", b.path("link")))
	want := []sources.Item{text("a", "ours"), text("folder", "ours"), text("link", "ours"), file("below", `"path":"link/x","content":""`)}
	me := ownerName(os.Getuid())
	ops := b.compare(want)
	for i, part := range []string{"a exists, is " + me + "'s and not ours (to take it over, list", "link is a symbolic link, and links are not followed", "folder is a folder", "link is a symbolic link (remove it"} {
		if !strings.Contains(said(ops), part) {
			t.Errorf("%d: %s\nlacks %s", i, said(ops), part)
		}
	}
	b.apply(want)
	if b.read("a") != "somebody's" || b.tree() != "a folder folder/x link" {
		t.Errorf("something was touched: %s", b.tree())
	}
	b.expect(b.compare(want[:1], func(s *reconciler.Scope) { s.AdoptFrom = []string{me} }), "adopt a")
	b.succeed(b.apply(want[:1], func(s *reconciler.Scope) { s.AdoptFrom = []string{"*"} }))
	if b.read("a") != "ours" {
		t.Error("a was not taken over")
	}
	other := func(s *reconciler.Scope) { s.Environment, s.AdoptFrom = "db", []string{"*"} }
	ops = b.compare([]sources.Item{file("mine", `"path":"a","content":"db's"`)}, other)
	if !strings.Contains(said(ops), "a belongs to environment web") {
		t.Errorf("another environment: %s", said(ops))
	}
	ops = b.compare([]sources.Item{text("x", ""), file("y", `"path":"x","content":""`)})
	if !strings.Contains(said(ops), "has the path x, as has File.host.holdfast.dev/x") {
		t.Errorf("one path twice: %s", said(ops))
	}
	if _, err := b.target.Compare(b.Context(), want, reconciler.Scope{Environment: "web", Source: "copy"}); err == nil || !strings.Contains(err.Error(), `belongs to source "shop"`) {
		t.Errorf("another source: %v", err)
	}
}

func TestNothingLeadsOutOfTheRoot(t *testing.T) {
	b := newBench(t)
	outside := t.TempDir()
	b.must(os.Symlink(outside, b.path("out")))
	for _, p := range []string{"../x", "/etc/x", "a/../../x", "a//x", ".", ".holdfast/web.json", ".Holdfast/x", "a\\x", "a\nx", "out/x", strings.Repeat("x", 300), strings.Repeat("a/", 600) + "x"} {
		item := file("f", fmt.Sprintf(`"path":%q,"content":"x"`, p))
		if ops := b.compare([]sources.Item{item}); ops[0].Err == nil || ops[0].Kind != reconciler.OpConflict {
			t.Errorf("%.40q is taken: %s", p, said(ops))
		}
		b.apply([]sources.Item{item})
	}
	// A folder of ours that becomes a link leads nowhere either.
	item := file("deep", `"path":"a/b","content":"x"`)
	b.succeed(b.apply([]sources.Item{item}))
	b.must(os.RemoveAll(b.path("a")))
	b.must(os.Symlink(outside, b.path("a")))
	if ops := b.compare([]sources.Item{item}); !strings.Contains(said(ops), "a is a symbolic link") {
		t.Errorf("got %s", said(ops))
	}
	b.apply([]sources.Item{item})
	b.apply(nil)
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("outside is %v, %v", left, err)
	}
}

func TestMistakesAreNamedAllAtOnce(t *testing.T) {
	b := newBench(t)
	for spec, want := range map[string][]string{
		`"path":"../x","mode":"9","owner":"no-such-user-here"`: {"no path of a file", `spec.mode "9" is no mode`, `no user "no-such-user-here"`, "has no spec.content"},
		`"mode":"4755","content":""`:                           {`spec.mode "4755" is no mode`},
		`"mode":420,"content":""`:                              {"field spec.mode"},
		`"content":"x","contentBase64":"eA=="`:                 {"has both"},
		`"contentBase64":"%%"`:                                 {"is not base64"},
		`"contents":"x"`:                                       {`unknown field "contents"`},
		`"owner":":","content":""`:                             {"names nobody"},
		`"owner":":no-such-group-here","content":""`:           {`no group "no-such-group-here"`},
	} {
		ops := b.compare([]sources.Item{file("f", spec)})
		for _, part := range append(want, "files.yaml:3: File.host.holdfast.dev/f") {
			if !strings.Contains(said(ops), part) {
				t.Errorf("%s: %s\nlacks %s", spec, said(ops), part)
			}
		}
	}
	cm := sources.NewItem(sources.ID{Kind: "ConfigMap", Namespace: "a", Name: "b"}, "v1", sources.Origin{File: "x.yaml", Line: 1}, []byte(`{}`), false)
	if ops := b.compare([]sources.Item{cm}); ops[0].Kind != reconciler.OpConflict || !strings.Contains(said(ops), "this target keeps files") {
		t.Errorf("another kind: %s", said(ops))
	}
}

func TestSensitiveContentIsNowhere(t *testing.T) {
	b := newBench(t)
	first, second := file("key", `"sensitive":true,"content":"sentinel-one"`), file("key", `"sensitive":true,"content":"sentinel-two"`)
	if out := b.apply([]sources.Item{first}); !out[0].Operation.Item.Sensitive {
		t.Error("the operation does not know that it is sensitive")
	}
	if info, err := os.Stat(b.path("key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	b.write("key", "sentinel-live")
	ops := slices.Concat(b.compare([]sources.Item{first}), b.compare([]sources.Item{second}), b.compare(nil))
	data, err := json.Marshal(ops)
	b.must(err)
	record := b.read(stateDir + "/web.json")
	for _, out := range []string{string(data), said(ops), record} {
		if strings.Contains(out, "sentinel") {
			t.Errorf("shown: %s", out)
		}
	}
	plain := text("key", "sentinel-one")
	if ops[0].Digest == plain.Digest || strings.Contains(record, digest(false, nil, []byte("sentinel-one"))) {
		t.Error("a digest confirms guesses")
	}
}

func TestDeletesNeedProof(t *testing.T) {
	b := newBench(t)
	want := []sources.Item{
		text("edited", "x"), text("gone", "x"), annotated(text("kept", "x"), AnnotationPrune, "disabled"),
		annotated(text("guarded", "x"), AnnotationProtected, "true"), text("plain", "x"),
	}
	b.succeed(b.apply(want))
	b.write("edited", "somebody's work")
	b.must(os.Remove(b.path("gone")))
	ops := b.compare(nil)
	b.expect(ops, "delete edited", "delete guarded", "unchanged kept", "delete plain")
	if !ops[0].Protected || !ops[1].Protected || ops[3].Protected {
		t.Errorf("protected are %v, %v, %v", ops[0].Protected, ops[1].Protected, ops[3].Protected)
	}
	// What takes the place of a file after it was compared is not deleted.
	b.write("new", "somebody's")
	b.must(os.Rename(b.path("new"), b.path("plain")))
	var failed []string
	b.must(b.target.Apply(b.Context(), reconciler.Plan{Environment: "web", Operations: ops[3:]}, func(o reconciler.Outcome) {
		failed = append(failed, o.Err.Error())
	}))
	if len(failed) != 1 || !strings.Contains(failed[0], "changed after it was compared") || b.read("plain") != "somebody's" {
		t.Errorf("%v", failed)
	}
	// Where a write fails, nothing is deleted.
	ops = b.compare([]sources.Item{text("edited", "x")})
	b.write("edited", "changed once more, after it was compared")
	var got []string
	b.must(b.target.Apply(b.Context(), reconciler.Plan{Environment: "web", Operations: ops}, func(o reconciler.Outcome) {
		got = append(got, fmt.Sprintf("%s %t %t", o.Operation.Kind, o.Err != nil, o.Deferred != ""))
	}))
	if !slices.Equal(got, []string{"correct true false", "delete false true", "delete false true"}) {
		t.Errorf("beside a write that failed: %v", got)
	}
}

func TestMovesCountAsDeletions(t *testing.T) {
	b := newBench(t)
	b.succeed(b.apply([]sources.Item{file("a", `"path":"old/a","content":"x"`)}))
	want := []sources.Item{file("a", `"path":"new/a","content":"y"`)}
	b.expect(b.compare(want), "recreate a")
	b.succeed(b.apply(want))
	if b.tree() != "new new/a" || b.read("new/a") != "y" {
		t.Errorf("left are %s", b.tree())
	}
	b.expect(b.compare(want), "unchanged a")
}

func TestRulesLeaveFieldsAlone(t *testing.T) {
	b := newBench(t)
	want := []sources.Item{text("a", "x\n")}
	b.succeed(b.apply(want))
	b.write("a", "y\n")
	b.must(os.Chmod(b.path("a"), 0o600))
	ops := b.compare(want)
	ops[0].Leave = []string{fieldMode}
	b.must(b.target.Apply(b.Context(), reconciler.Plan{Environment: "web", Operations: ops}, func(o reconciler.Outcome) { b.must(o.Err) }))
	if info, err := os.Stat(b.path("a")); err != nil || info.Mode() != 0o600 || b.read("a") != "x\n" {
		t.Errorf("mode %v, content %q, %v", info.Mode(), b.read("a"), err)
	}
}

func TestACrashAtAnyStepLosesNothingAndTakesNothing(t *testing.T) {
	// Each step leaves the directory as a kill right after it would.
	for name, crash := range map[string]func(b *bench, r *record){
		"before the file":   func(b *bench, r *record) { r.Files["/a"] = pending(r, "x") },
		"after a new file":  func(b *bench, r *record) { r.Files["/a"] = pending(r, "x"); b.write("a", "x") },
		"others were first": func(b *bench, r *record) { r.Files["/a"] = pending(r, "x"); b.write("a", "somebody's") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			r := newRecord("web", "holdfast")
			crash(b, r)
			root, err := b.target.open()
			b.must(err)
			defer root.Close()
			b.must(saveRecord(root, r))
			b.must(os.WriteFile(b.path(tempDir+"/leftover"), nil, 0o600))
			if name == "others were first" {
				if ops := b.compare([]sources.Item{text("a", "x")}); ops[0].Kind != reconciler.OpConflict {
					t.Errorf("somebody's file: %s", said(ops))
				}
				b.expect(b.compare(nil))
				b.apply(nil)
				if b.read("a") != "somebody's" {
					t.Error("somebody's file was touched")
				}
				return
			}
			b.succeed(b.apply([]sources.Item{text("a", "x")}))
			b.expect(b.compare([]sources.Item{text("a", "x")}), "unchanged a")
			if _, err := os.Stat(b.path(tempDir + "/leftover")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a temporary file stays: %v", err)
			}
			b.succeed(b.apply(nil))
			if b.tree() != "" {
				t.Errorf("left are %s", b.tree())
			}
		})
	}
}

func pending(r *record, content string) entry {
	return entry{ID: sources.ID{Group: Group, Kind: Kind, Name: "a"}, Path: "a", Pending: digest(false, nil, []byte(content))}
}

func TestRecordsAreNotBelieved(t *testing.T) {
	for name, text := range map[string]string{
		"a path that leads out": `{"version":1,"environment":"web","installation":"holdfast","files":{"/a":{"id":{"kind":"File","name":"a"},"path":"../x"}}}`,
		"no JSON":               `{`,
		"another version":       `{"version":2,"environment":"web"}`,
		"another's name":        `{"version":1,"environment":"db"}`,
	} {
		b := newBench(t)
		b.write(stateDir+"/web.json", text)
		if _, err := b.target.Compare(b.Context(), nil, reconciler.Scope{Environment: "web"}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestStateIsKeptInTheDirectory(t *testing.T) {
	b := newBench(t)
	hold := reconciler.Hold{ID: "hold-1", Reason: "incident", Author: "ann", Until: time.Now().Add(time.Hour)}
	for _, name := range []string{"web", ""} {
		_, err := b.target.SaveState(b.Context(), name, func(s *reconciler.State) error {
			s.Holds = append(s.Holds, hold)
			return nil
		})
		b.must(err)
	}
	b.reopen()
	for _, name := range []string{"web", ""} {
		if s, err := b.target.State(b.Context(), name); err != nil || len(s.Holds) != 1 || s.Holds[0].Reason != "incident" {
			t.Errorf("%q: %+v, %v", name, s, err)
		}
	}
	b.succeed(b.apply([]sources.Item{text("a", "x")}))
	if names, err := b.target.Environments(b.Context()); err != nil || !slices.Equal(names, []string{"web"}) {
		t.Errorf("environments %v, %v", names, err)
	}
	if err := b.target.Forget(b.Context(), "web"); err == nil {
		t.Error("an environment with files is forgotten")
	}
	if n, err := b.target.Detach(b.Context(), "web"); err != nil || n != 1 {
		t.Errorf("detached %d, %v", n, err)
	}
	b.must(b.target.Forget(b.Context(), "web"))
	if b.tree() != "a" {
		t.Errorf("detached: %s", b.tree())
	}
	if ops := b.compare([]sources.Item{text("a", "x")}); ops[0].Kind != reconciler.OpConflict {
		t.Errorf("detached: %s", said(ops))
	}
}

func TestOneDaemonWritesToADirectory(t *testing.T) {
	b := newBench(t)
	b.succeed(b.apply([]sources.Item{text("a", "x")}))
	other, err := Open(Options{Name: "host", Dir: b.dir, Installation: "holdfast"})
	b.must(err)
	ops, err := other.Compare(b.Context(), []sources.Item{text("a", "y")}, reconciler.Scope{Environment: "web", Source: "shop"})
	b.must(err)
	err = other.Apply(b.Context(), reconciler.Plan{Environment: "web", Operations: ops}, func(reconciler.Outcome) {})
	if err == nil || !strings.Contains(err.Error(), "is kept by another holdfast") || b.read("a") != "x" {
		t.Errorf("a second daemon: %v", err)
	}
}

func TestAMissingDirectoryDeletesNothing(t *testing.T) {
	b := newBench(t)
	b.must(os.Remove(b.dir))
	if _, err := b.target.Compare(b.Context(), nil, reconciler.Scope{Environment: "web"}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
}

func TestTouchedFilesAreHinted(t *testing.T) {
	b := newBench(t)
	b.target.opts.Interval = 20 * time.Millisecond
	want := []sources.Item{file("a", `"path":"x/y/a","content":"one"`), text("b", "one")}
	b.succeed(b.apply(want))
	ctx, cancel := context.WithCancel(b.Context())
	hints := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- b.target.Watch(ctx, func(h reconciler.Hint) { hints <- h.Environment + " " + h.Object.Name })
	}()
	await := func(want string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case got := <-hints:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("no hint for %s", want)
			}
		}
	}
	b.write("x/y/a", "two")
	await("web a")
	b.succeed(b.apply(want))
	b.must(os.Chmod(b.path("b"), 0o777))
	await("web b")
	b.succeed(b.apply(want))
	b.must(os.Rename(b.path("x"), b.path("z")))
	await("web a")
	b.must(os.RemoveAll(b.path("z")))
	b.succeed(b.apply(want))
	b.must(os.Remove(b.path("x/y/a")))
	await("web a")
	if asOf, problems := b.target.Health("web"); time.Since(asOf) > time.Minute || len(problems) > 0 {
		t.Errorf("health %v, %v", asOf, problems)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := b.target.Apply(b.Context(), reconciler.Plan{Environment: "web", Operations: []reconciler.Operation{{Kind: reconciler.OpCreate}}}, func(reconciler.Outcome) {}); err == nil {
		t.Error("a target that has stopped writes")
	}
}
