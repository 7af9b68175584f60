package hostfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// note is what an operation carries from comparing to applying.
type note struct {
	want wanted
	// from is the file as it was compared.
	from stamp
	// entry is what the record said.
	entry entry
}

// comparison is the state of one Compare.
type comparison struct {
	t      *Target
	root   *os.Root
	scope  reconciler.Scope
	record *record
	// owners are the environments that have a path, but for ours.
	owners map[string]string
	// taken are the items of this comparison by path.
	taken map[string]wanted
	ops   []reconciler.Operation
}

// Compare implements reconciler.Driver. It writes nothing.
func (t *Target) Compare(ctx context.Context, want []sources.Item, scope reconciler.Scope) ([]reconciler.Operation, error) {
	root, err := t.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(root); err != nil {
		return nil, err
	}
	r, err := t.recordOf(scope)
	if err != nil {
		return nil, err
	}
	c := &comparison{t: t, root: root, scope: scope, record: r, owners: t.ownersBut(scope.Environment), taken: map[string]wanted{}}
	if !scope.Preview {
		t.sources[scope.Environment] = scope.Source
	}
	wantedKeys := map[string]bool{}
	for _, item := range want {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		wantedKeys[keyOf(item.ID)] = true
		c.ops = append(c.ops, c.item(item))
	}
	if !scope.Partial {
		c.unwanted(wantedKeys)
		t.rouse()
	}
	slices.SortFunc(c.ops, func(a, b reconciler.Operation) int { return a.Object.Compare(b.Object) })
	return c.ops, nil
}

// ownersBut are the paths of other environments. It needs t.mu.
func (t *Target) ownersBut(environment string) map[string]string {
	out := map[string]string{}
	for name, r := range t.records {
		if name == environment {
			continue
		}
		for _, e := range r.Files {
			out[e.Path] = name
			if e.PendingPath != "" {
				out[e.PendingPath] = name
			}
		}
	}
	return out
}

// item says what one wanted file needs.
func (c *comparison) item(item sources.Item) reconciler.Operation {
	w, err := parse(item, c.t.opts.Key)
	op := reconciler.Operation{Object: item.ID, Item: w.item, Digest: w.digest}
	if err == nil {
		err = c.place(w)
	}
	if err != nil {
		op.Kind, op.Err = reconciler.OpConflict, err
		return op
	}
	e, owned := c.record.Files[keyOf(item.ID)]
	l, err := read(c.root, w.path)
	if err != nil {
		return unread(op, w, err)
	}
	op.UID = l.uniqueID()
	op.Live = note{want: w, from: l.stamp, entry: e}
	c.t.seen[w.path] = sighting{l.stamp, time.Now()}
	switch {
	case owned && e.Digest != "" && e.Path != w.path:
		return c.moved(op, w, e, l)
	case !owned || e.Digest == "" && !e.wrote(c.sumOf(e, l)):
		return c.fresh(op, w, l)
	case e.Pending != "":
		op.Kind, op.Why = reconciler.OpUpdate, "an earlier run was cut short"
	case e.Digest != w.digest:
		op.Kind, op.Why = reconciler.OpUpdate, "git asks for something else"
	default:
		c.drifted(&op, w, l)
	}
	return op
}

// place refuses a path that another has.
func (c *comparison) place(w wanted) error {
	if other, twice := c.taken[w.path]; twice {
		return problem(w.item, fmt.Sprintf("has the path %s, as has %s at %s", w.path, other.item.ID, other.item.Origin), "keep one of the two")
	}
	c.taken[w.path] = w
	if owner, taken := c.owners[w.path]; taken {
		return problem(w.item, fmt.Sprintf("%s belongs to environment %s", w.path, owner), "take it out of one of the two environments")
	}
	return nil
}

// unread is an operation on a file that could not be looked at. What can be
// mended in git or by hand is a conflict; anything else is unknown.
func unread(op reconciler.Operation, w wanted, err error) reconciler.Operation {
	op.Kind = reconciler.OpUnknown
	if errors.As(err, new(symlinkError)) || errors.Is(err, syscall.ENOTDIR) {
		op.Kind = reconciler.OpConflict
	}
	op.Err = problem(w.item, "cannot be looked at: "+err.Error(), "")
	return op
}

// sumOf is the digest of live content, as the entry's were made.
func (c *comparison) sumOf(e entry, l live) string {
	if !l.there || !l.regular() || l.large {
		return ""
	}
	return digest(e.Sensitive, c.t.opts.Key, l.content)
}

// fresh is a file that is not ours yet.
func (c *comparison) fresh(op reconciler.Operation, w wanted, l live) reconciler.Operation {
	if !l.there {
		op.Kind = reconciler.OpCreate
		return op
	}
	if !l.regular() {
		op.Kind = reconciler.OpConflict
		op.Err = problem(w.item, fmt.Sprintf("%s is %s", w.path, l.what()), "remove it, or choose another path")
		return op
	}
	owner := ownerName(l.uid)
	if slices.Contains(c.scope.AdoptFrom, "*") || slices.Contains(c.scope.AdoptFrom, owner) {
		op.Kind, op.Why = reconciler.OpAdopt, "exists, and is "+owner+"'s"
		return op
	}
	op.Kind = reconciler.OpConflict
	op.Err = problem(w.item, fmt.Sprintf("%s exists, is %s's and not ours", w.path, owner),
		fmt.Sprintf("to take it over, list %q or \"*\" under spec.adoptFrom", owner))
	return op
}

// moved is a file whose path changed: it goes from one place and comes to be in
// another, so that it counts as a deletion, too.
func (c *comparison) moved(op reconciler.Operation, w wanted, e entry, l live) reconciler.Operation {
	begun := e.PendingPath == w.path && e.wrote(c.sumOf(e, l)) // and cut short
	if l.there && !begun {
		return c.fresh(op, w, l)
	}
	op.Kind, op.Why = reconciler.OpRecreate, fmt.Sprintf("its path changes from %s to %s", e.Path, w.path)
	op.Protected = e.Guarded || c.changedByOthers(e)
	return op
}

// ownerName is a user's name, or the number of one without.
func ownerName(uid int) string {
	text := strconv.Itoa(uid)
	if u, err := user.LookupId(text); err == nil {
		return u.Username
	}
	return text
}

// drifted compares a file of ours with what was applied.
func (c *comparison) drifted(op *reconciler.Operation, w wanted, l live) {
	switch {
	case !l.there:
		op.Kind, op.Class, op.Why = reconciler.OpCorrect, drift.Missing, "the file is gone"
		op.Changes = []drift.Change{{Desired: drift.NewValue("present", false), Live: drift.Absent(), Manager: drift.Unknown}}
	case !l.regular():
		op.Kind, op.Class, op.Why = reconciler.OpCorrect, drift.Changed, "the file was replaced by "+l.what()
		op.Changes = []drift.Change{{
			Desired: drift.NewValue("a file", false), Live: drift.NewValue(l.what(), false), Manager: drift.Unknown, Time: l.modified.UTC(),
		}}
		if l.mode.IsDir() {
			// A folder may hold anything; it is not ours to remove.
			op.Kind, op.Err = reconciler.OpConflict, problem(w.item, w.path+" was replaced by a folder", "move the folder away")
		}
	default:
		op.Changes = differences(w, l)
		op.Kind = reconciler.OpUnchanged
		if len(op.Changes) > 0 {
			op.Kind, op.Class, op.Why = reconciler.OpCorrect, drift.Changed, "the file was changed"
		}
	}
}

// unwanted finds what the record has and nobody wants.
func (c *comparison) unwanted(want map[string]bool) {
	for key, e := range c.record.Files {
		if want[key] {
			continue
		}
		if op, left := c.leaving(e); left {
			c.ops = append(c.ops, op)
		}
	}
}

// leaving is the deletion of a file that left git. What is gone already, or never
// was written, is only forgotten, by the next write of the record.
func (c *comparison) leaving(e entry) (op reconciler.Operation, left bool) {
	op = reconciler.Operation{Object: e.ID, Kind: reconciler.OpDelete, Why: "left git"}
	s, err := glance(c.root, e.Path)
	if err != nil {
		op.Kind, op.Err = reconciler.OpUnknown, fmt.Errorf("look at %s: %w", e.Path, err)
		return op, true
	}
	if !s.there || c.takenOver(e) || e.Digest == "" && c.changedByOthers(e) {
		return op, false
	}
	op.UID, op.Live = s.uniqueID(), note{from: s, entry: e}
	op.Item.ID, op.Item.Sensitive = e.ID, e.Sensitive
	if e.Keep {
		op.Kind, op.Why = reconciler.OpUnchanged, "left git, and is kept by its annotation "+AnnotationPrune
		return op, true
	}
	switch {
	case e.Guarded:
		op.Protected, op.Why = true, "left git, and is protected by its annotation"
	case c.changedByOthers(e):
		// Somebody's work may be in it.
		op.Protected, op.Why = true, "left git, and was changed by others since it was written"
	}
	return op, true
}

// takenOver reports whether the path of an entry is another item's by now.
func (c *comparison) takenOver(e entry) bool {
	w, here := c.taken[e.Path]
	_, there := c.owners[e.Path]
	return here && keyOf(w.item.ID) != keyOf(e.ID) || there
}

// changedByOthers reports whether an entry's file is not what we wrote.
func (c *comparison) changedByOthers(e entry) bool {
	l, err := read(c.root, e.Path)
	return err != nil || l.there && !e.wrote(c.sumOf(e, l))
}

// wrongMode reports whether the permissions differ.
func wrongMode(w wanted, s stamp) bool {
	return s.mode.Perm() != w.mode || s.mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0
}

func wrongOwner(w wanted, s stamp) bool {
	return w.uid >= 0 && s.uid != w.uid || w.gid >= 0 && s.gid != w.gid
}

// ownerText is how an owner is shown: with the parts that the wanted one has.
func ownerText(w wanted, s stamp) string {
	var parts []string
	if w.uid >= 0 {
		parts = append(parts, ownerName(s.uid))
	}
	if w.gid >= 0 {
		name := strconv.Itoa(s.gid)
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		if w.uid < 0 {
			parts = append(parts, "")
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ":")
}
