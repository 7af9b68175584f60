package kubelive

import (
	"sync"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Verdict is what the index can say of an object without a request.
type Verdict int

// The verdicts. Only Clean needs no further look.
const (
	// Unseen: the index knows nothing of it.
	Unseen Verdict = iota
	// Unverified: it is there and ours by label, but there is no baseline.
	Unverified
	// Clean: live is what the baseline says.
	Clean
	// Suspect: something changed that our own writes do not explain.
	Suspect
	// Gone: it was there and is not now, or lost our label.
	Gone
)

// Hint says that an object may have drifted. It is no verdict.
type Hint struct {
	Environment string
	Object      sources.ID
}

// entry is an object in the index. Its fields belong to the index's mutex.
type entry struct {
	// live is the last state seen by the watch or in a response; nil when gone.
	live *Record
	base *Baseline
	// environment outlives live.
	environment string
	// writing counts our own writes in flight: what the watch says meanwhile
	// cannot be judged before they have been answered.
	writing int
	// touched: the watch said something meanwhile.
	touched bool
	// expectGone: we asked for its deletion.
	expectGone bool
	// doubted: a verification found other values than those that were applied.
	doubted bool
	// goneAt is the resourceVersion at which it was last seen to go.
	goneAt string
}

func (e *entry) verdict() Verdict {
	switch {
	case e.live == nil || e.expectGone:
		return Gone
	case e.base == nil:
		return Unverified
	case e.doubted:
		return Suspect
	case explained(e.live, e.base):
		return Clean
	}
	return Suspect
}

// explained reports whether a live record is what the baseline says. A kind
// without generation (ConfigMap, Secret, Role …) can change without a trace in
// the digests, so for it any unknown resourceVersion is a reason to look.
func explained(live *Record, base *Baseline) bool {
	if live.UID != base.UID {
		return false
	}
	if live.ResourceVersion == base.ResourceVersion {
		return true
	}
	return live.Generation > 0 && live.Generation == base.Generation &&
		live.Own == base.Own && live.Meta == base.Meta
}

// Index knows the owned objects of one target. It is safe for concurrent use.
type Index struct {
	mu      sync.Mutex
	entries map[sources.ID]*entry
	changed func(Hint)
	// versions counts, by environment, the times that anything was learned of
	// its objects.
	versions map[string]uint64
	// held are those that an annotation asks to be left alone.
	held map[sources.ID]*entry
	// unsaved are those whose baselines changed since the last save.
	unsaved map[sources.ID]struct{}
	// additions is what others added, with a lock of its own.
	additions additions
}

// NewIndex makes an index that starts from saved baselines. Changed is called,
// without locks held, for every object that may have drifted; it must not block.
func NewIndex(saved map[sources.ID]Baseline, changed func(Hint)) *Index {
	x := &Index{entries: make(map[sources.ID]*entry, len(saved)), versions: map[string]uint64{}, held: map[sources.ID]*entry{}, unsaved: map[sources.ID]struct{}{}, changed: changed}
	x.additions.wants, x.additions.seen = map[string]bool{}, map[sources.ID]Digest{}
	for id, b := range saved {
		intern(&b.Record)
		x.entries[id] = &entry{base: &b, environment: b.Environment}
	}
	return x
}

// Look is what the index knows of an object.
type Look struct {
	Verdict Verdict
	// Live is the last state seen; meaningless when Unseen or Gone.
	Live Record
	// Base is the baseline; its UID is empty when there is none.
	Base Baseline
	// Since is the newest version at which anything was learned of the object, its
	// end included.
	Since string
}

// Look says what is known of an object.
func (x *Index) Look(id sources.ID) Look {
	x.mu.Lock()
	defer x.mu.Unlock()
	return lookOf(x.entries[id])
}

func lookOf(e *entry) Look {
	if e == nil {
		return Look{Verdict: Unseen}
	}
	l := Look{Verdict: e.verdict(), Since: e.goneAt}
	if e.live != nil {
		l.Live, l.Since = *e.live, e.live.ResourceVersion
	}
	if e.base != nil {
		l.Base = *e.base
	}
	return l
}

// Version changes whenever anything is learned of an environment's objects: as
// long as it stays, so does what was concluded from Look and Unwanted.
func (x *Index) Version(environment string) uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.versions[environment]
}

// Unwanted lists what carries an environment's label, or did when last seen, and
// is not wanted.
func (x *Index) Unwanted(environment string, wanted func(sources.ID) bool) map[sources.ID]Look {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out map[sources.ID]Look
	for id, e := range x.entries {
		if e.environment != environment || wanted(id) {
			continue
		}
		if out == nil {
			out = map[sources.ID]Look{}
		}
		out[id] = lookOf(e)
	}
	return out
}

// Touch says that something else was learned which what is concluded from an
// environment's objects depends on, and hints at an object if it is known.
func (x *Index) Touch(id sources.ID) {
	x.mu.Lock()
	e := x.entries[id]
	if e == nil || e.environment == "" {
		x.mu.Unlock()
		return
	}
	x.versions[e.environment]++
	hint := Hint{Environment: e.environment, Object: id}
	x.mu.Unlock()
	x.changed(hint)
}

// Each visits what is known of an environment's objects.
func (x *Index) Each(environment string, visit func(sources.ID, Look)) {
	x.mu.Lock()
	all := map[sources.ID]Look{}
	for id, e := range x.entries {
		if e.environment == environment {
			all[id] = lookOf(e)
		}
	}
	x.mu.Unlock()
	for id, l := range all {
		visit(id, l)
	}
}

// Len is how many live objects the index holds.
func (x *Index) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, e := range x.entries {
		if e.live != nil {
			n++
		}
	}
	return n
}

func (x *Index) entry(id sources.ID) *entry {
	e := x.entries[id]
	if e == nil {
		e = &entry{}
		x.entries[id] = e
	}
	return e
}

// BeginWrite announces a write of ours; EndWrite, Wrote or Deleted must follow.
func (x *Index) BeginWrite(id sources.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entry(id).writing++
}

// EndWrite ends a write that failed. What the watch said meanwhile counts again;
// if it said nothing there is no new hint, since who wrote knows that it failed
// and tries again in its own time.
func (x *Index) EndWrite(id sources.ID) {
	x.endWrite(id, func(*entry) {})
}

// Wrote ends a write with the baseline that its response gave.
func (x *Index) Wrote(id sources.ID, b Baseline) {
	x.endWrite(id, func(e *entry) { x.setBaseline(id, e, b) })
}

// Verified sets the baseline of an object that was read in full and found to be
// as desired.
func (x *Index) Verified(id sources.ID, b Baseline) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.setBaseline(id, x.entry(id), b)
}

// Deleted ends a write that deleted the object.
func (x *Index) Deleted(id sources.ID) {
	x.endWrite(id, func(e *entry) { e.expectGone = true })
}

// Forget drops an object that nobody wants and that is not there.
func (x *Index) Forget(id sources.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.entries[id]; e != nil && e.live == nil && e.writing == 0 {
		x.drop(id)
		x.versions[e.environment]++
	}
}

// drop forgets an object. It needs x.mu.
func (x *Index) drop(id sources.ID) {
	delete(x.entries, id)
	delete(x.held, id)
	x.unsaved[id] = struct{}{}
}

func (x *Index) setBaseline(id sources.ID, e *entry, b Baseline) {
	x.unsaved[id] = struct{}{}
	x.versions[e.environment]++
	x.versions[b.Environment]++
	intern(&b.Record)
	e.base, e.environment, e.expectGone, e.doubted = &b, b.Environment, false, false
	// The response is newer than what the watch brought, unless the watch has
	// overtaken it: with a later state, or with the news that it is gone.
	overtaken := e.live != nil && newer(e.live.ResourceVersion, b.ResourceVersion) ||
		e.goneAt != "" && newer(e.goneAt, b.ResourceVersion)
	if !overtaken {
		e.live, e.goneAt = &e.base.Record, ""
	} else {
		e.touched = true
	}
	e.share()
	x.noteHeld(id, e)
}

func (x *Index) endWrite(id sources.ID, change func(*entry)) {
	x.mu.Lock()
	e := x.entry(id)
	e.writing--
	change(e)
	touched := e.touched
	e.touched = e.touched && e.writing > 0
	hint, ok := x.judge(id, e)
	x.mu.Unlock()
	if ok && touched {
		x.changed(hint)
	}
}

// judge says whether the entry asks for a look, and drops what is done with.
func (x *Index) judge(id sources.ID, e *entry) (Hint, bool) {
	x.noteHeld(id, e)
	x.versions[e.environment]++
	if e.writing > 0 {
		return Hint{}, false
	}
	if e.live == nil && (e.expectGone || e.base == nil) {
		x.drop(id)
		return Hint{}, false
	}
	if v := e.verdict(); v == Suspect || v == Gone {
		return Hint{Environment: e.environment, Object: id}, true
	}
	return Hint{}, false
}

// newer reports whether a is a later resourceVersion than b. Versions that
// cannot be compared count as newer: the next look will tell.
func newer(a, b string) bool {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || c > 0
}

// observe takes in one state from a watch.
func (x *Index) observe(id sources.ID, r Record) {
	x.mu.Lock()
	e := x.entry(id)
	// A watch that lags behind our own response says nothing new.
	if e.live != nil && !newer(r.ResourceVersion, e.live.ResourceVersion) {
		x.mu.Unlock()
		return
	}
	if e.goneAt != "" && !newer(r.ResourceVersion, e.goneAt) {
		x.mu.Unlock()
		return
	}
	intern(&r)
	e.live, e.goneAt, e.touched = &r, "", e.writing > 0
	e.share()
	// What we applied stays ours to look after, whatever label it got since.
	if e.base != nil {
		e.environment = e.base.Environment
	} else if r.Environment != "" {
		e.environment = r.Environment
	}
	hint, ok := x.judge(id, e)
	x.mu.Unlock()
	if ok {
		x.changed(hint)
	}
}

// vanished takes in that an object left the watch's selection: deleted, or
// without our label. The version is that of its last state.
func (x *Index) vanished(id sources.ID, r Record) {
	x.mu.Lock()
	e := x.entries[id]
	if e == nil || (e.live != nil && newer(e.live.ResourceVersion, r.ResourceVersion)) {
		x.mu.Unlock()
		return
	}
	e.live, e.goneAt, e.touched = nil, r.ResourceVersion, e.writing > 0
	hint, ok := x.judge(id, e)
	x.mu.Unlock()
	if ok {
		x.changed(hint)
	}
}

// replace takes in a complete list of one watch's selection.
func (x *Index) replace(covers func(sources.ID) bool, list map[sources.ID]Record, version string) {
	for id, r := range list {
		x.observe(id, r)
	}
	x.mu.Lock()
	var gone []sources.ID
	for id, e := range x.entries {
		if _, listed := list[id]; listed || !covers(id) || e.writing > 0 {
			continue
		}
		// Created by us after the list was taken: the watch will bring it.
		if e.live != nil && newer(e.live.ResourceVersion, version) {
			continue
		}
		gone = append(gone, id)
	}
	x.mu.Unlock()
	for _, id := range gone {
		x.markGone(id)
	}
}

func (x *Index) markGone(id sources.ID) {
	x.mu.Lock()
	e := x.entries[id]
	if e == nil || e.writing > 0 {
		x.mu.Unlock()
		return
	}
	e.live = nil
	hint, ok := x.judge(id, e)
	x.mu.Unlock()
	if ok {
		x.changed(hint)
	}
}

// ForgetAbsent drops what is saved of an environment's objects that are not there,
// as when the target turns out to be another cluster than the one it was.
func (x *Index) ForgetAbsent(environment string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, e := range x.entries {
		if e.environment == environment && e.live == nil && e.writing == 0 {
			x.drop(id)
		}
	}
	x.versions[environment]++
}
