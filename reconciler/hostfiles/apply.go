package hostfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// application is the state of one Apply.
type application struct {
	t    *Target
	root *os.Root
	// record is the environment's, as it will be when all is done.
	record *record
	done   func(reconciler.Outcome)
	failed bool
	// noted says that the record has to be written again at the end.
	noted bool
}

// errMoved means that a file is not any more what the plan is about.
var errMoved = errors.New("the file changed after it was compared; it is looked at again")

// Apply implements reconciler.Driver: writes first, then, if all of them went
// well, deletes.
func (t *Target) Apply(ctx context.Context, p reconciler.Plan, done func(reconciler.Outcome)) error {
	active := p.Active()
	if len(active) == 0 {
		return nil
	}
	root, err := t.open()
	if err != nil {
		return err
	}
	defer root.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.claim(root); err != nil {
		return err
	}
	if err := t.load(root); err != nil {
		return err
	}
	r, err := t.recordOf(reconciler.Scope{Environment: p.Environment})
	if err != nil {
		return err
	}
	a := &application{t: t, root: root, record: r.clone(), done: done}
	if a.record.Source == "" {
		a.record.Source = t.sources[p.Environment]
	}
	if err := a.announce(active); err != nil {
		return err
	}
	a.all(ctx, active)
	err = a.conclude()
	t.rouse()
	return err
}

// announce records what is about to be written, before any of it is.
func (a *application) announce(ops []reconciler.Operation) error {
	before := len(a.record.Folders)
	changed := false
	for _, op := range ops {
		n, ok := op.Live.(note)
		if !ok || op.Kind == reconciler.OpDelete {
			continue
		}
		for _, dir := range missingFolders(a.root, n.want.path) {
			if !slices.Contains(a.record.Folders, dir) {
				a.record.Folders = append(a.record.Folders, dir)
			}
		}
		if op.Kind == reconciler.OpCorrect {
			continue // it is ours, and stays what it is
		}
		e := a.record.Files[keyOf(op.Object)]
		if err := a.dropBegun(e, n.want.path); err != nil {
			return err
		}
		e.ID, e.Pending, e.Sensitive = op.Object, n.want.sum, n.want.item.Sensitive
		if e.Path == "" || e.Digest == "" {
			e.Path = n.want.path
		}
		if e.Path != n.want.path {
			e.PendingPath = n.want.path
		}
		a.record.Files[keyOf(op.Object)] = e
		changed = true
	}
	if !changed && len(a.record.Folders) == before {
		return nil
	}
	a.noted = changed
	return a.t.store(a.root, a.record.clone())
}

// dropBegun removes a file that a move began to write and did not finish, if git
// has thought of another path since.
func (a *application) dropBegun(e entry, wanted string) error {
	if e.PendingPath == "" || e.PendingPath == wanted {
		return nil
	}
	l, err := read(a.root, e.PendingPath)
	if err != nil {
		return err
	}
	if l.there && l.regular() && e.wrote(digest(e.Sensitive, a.t.opts.Key, l.content)) {
		return a.unlink(entry{Path: e.PendingPath})
	}
	return nil
}

func (a *application) all(ctx context.Context, ops []reconciler.Operation) {
	for _, op := range ops {
		if op.Kind != reconciler.OpDelete {
			a.report(ctx, op, a.write)
		}
	}
	for _, op := range ops {
		switch {
		case op.Kind != reconciler.OpDelete:
		case a.failed:
			a.done(reconciler.Outcome{Operation: op, Deferred: "is deleted by a run in which no write fails"})
		default:
			a.report(ctx, op, a.remove)
		}
	}
}

// report carries out one operation and tells what became of it.
func (a *application) report(ctx context.Context, op reconciler.Operation, do func(reconciler.Operation, note) (noop bool, err error)) {
	out := reconciler.Outcome{Operation: op, Class: op.Class, Changes: op.Changes}
	n, ok := op.Live.(note)
	err := ctx.Err()
	if err == nil && !ok {
		err = fmt.Errorf("this target cannot carry out %s", op.Kind)
	}
	if err == nil {
		out.Noop, err = do(op, n)
	}
	if err != nil {
		a.failed = true
		out.Err = problem(op.Item, fmt.Sprintf("%s %s: %v", op.Kind, pathOf(n), err), hintFor(err))
	}
	a.done(out)
}

func pathOf(n note) string {
	if n.want.path != "" {
		return n.want.path
	}
	return n.entry.Path
}

func hintFor(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "the daemon's user needs the right to write there, and to give files to their owner"
	}
	return ""
}

// write brings one file about.
func (a *application) write(op reconciler.Operation, n note) (noop bool, err error) {
	w := n.want
	if err := a.still(w.path, n.from); err != nil {
		return false, err
	}
	if op.Kind == reconciler.OpRecreate && !op.Protected && a.touched(n.entry) {
		return false, errMoved
	}
	r := replacement{path: w.path, content: w.content, mode: w.mode, uid: w.uid, gid: w.gid, fresh: !n.from.there}
	if op.Kind == reconciler.OpCorrect {
		if r, err = a.withLeft(r, op, n); err != nil {
			return false, err
		}
		if n.from.there && n.from.regular() && len(op.Leave) > 0 && a.same(r) {
			return true, nil
		}
	}
	if dir := path.Dir(w.path); dir != "." {
		if err := a.root.MkdirAll(dir, 0o755); err != nil {
			return false, err
		}
	}
	if err := put(a.root, r); err != nil {
		return false, err
	}
	now, err := glance(a.root, w.path)
	if err != nil {
		return false, err
	}
	a.t.seen[w.path] = sighting{now, time.Now()}
	if op.Kind == reconciler.OpRecreate {
		err = a.unlink(n.entry)
	}
	if op.Kind != reconciler.OpCorrect {
		a.record.Files[keyOf(op.Object)] = entry{
			ID: op.Object, Path: w.path, Digest: w.digest, Sum: w.sum, Sensitive: w.item.Sensitive, Keep: w.keep, Guarded: w.guarded,
		}
	}
	return false, err
}

// still sees that a file is as it was compared.
func (a *application) still(p string, from stamp) error {
	now, err := glance(a.root, p)
	if err == nil && now != from {
		err = errMoved
	}
	return err
}

// touched reports whether an entry's file is not what we wrote.
func (a *application) touched(e entry) bool {
	l, err := read(a.root, e.Path)
	return err != nil || l.there && (!l.regular() || l.large || !e.wrote(digest(e.Sensitive, a.t.opts.Key, l.content)))
}

// withLeft keeps live what a rule or a decision leaves alone.
func (a *application) withLeft(r replacement, op reconciler.Operation, n note) (replacement, error) {
	for _, field := range op.Leave {
		switch field {
		case fieldMode:
			r.mode = n.from.mode.Perm()
		case fieldOwner:
			r.uid, r.gid = n.from.uid, n.from.gid
		default: // the content, or lines of it
			l, err := read(a.root, n.want.path)
			if err != nil || l.large {
				return r, errors.Join(err, errMoved)
			}
			r.content = l.content
		}
	}
	return r, nil
}

// same reports whether a file is as a replacement would make it.
func (a *application) same(r replacement) bool {
	l, err := read(a.root, r.path)
	return err == nil && !l.large && string(l.content) == string(r.content) && l.mode.Perm() == r.mode &&
		(r.uid < 0 || l.uid == r.uid) && (r.gid < 0 || l.gid == r.gid)
}

// remove deletes a file that left git.
func (a *application) remove(op reconciler.Operation, n note) (noop bool, err error) {
	now, err := glance(a.root, n.entry.Path)
	if err != nil {
		return false, err
	}
	if now.there && now.uniqueID() != op.UID {
		return false, errMoved
	}
	if now.there && now.mode.IsDir() {
		return false, errors.New("a folder has taken its place, which is not ours")
	}
	if now.there {
		if err := a.unlink(n.entry); err != nil {
			return false, err
		}
	}
	delete(a.record.Files, keyOf(op.Object))
	a.noted = true
	return !now.there, nil
}

// unlink removes an entry's file, and the folders that were made for it and are
// empty now.
func (a *application) unlink(e entry) error {
	if err := a.root.Remove(e.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(a.t.seen, e.Path)
	dir := path.Dir(e.Path)
	for ; dir != "." && slices.Contains(a.record.Folders, dir); dir = path.Dir(dir) {
		if a.root.Remove(dir) != nil { // something is in it, which then stays
			break
		}
		a.record.Folders = slices.DeleteFunc(a.record.Folders, func(f string) bool { return f == dir })
		a.noted = true
	}
	return syncFolder(a.root, existing(a.root, dir))
}

// existing is the innermost folder of a path that is there.
func existing(root *os.Root, dir string) string {
	for dir != "." {
		if info, err := root.Lstat(dir); err == nil && info.IsDir() {
			break
		}
		dir = path.Dir(dir)
	}
	return dir
}

// conclude forgets what is neither wanted nor there any more, and writes the
// record if it says something else than before.
func (a *application) conclude() error {
	for key, e := range a.record.Files {
		if e.Pending == "" {
			continue
		}
		// The write failed: what was never there is not ours.
		if s, err := glance(a.root, e.Path); err == nil && !s.there && e.Digest == "" {
			delete(a.record.Files, key)
		}
	}
	if !a.noted {
		return nil
	}
	return a.t.store(a.root, a.record)
}
