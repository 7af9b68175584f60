package reconciler

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// ObjectSync is how one object stands, in one word.
type ObjectSync string

// The words for how an object stands.
const (
	ObjectSynced  ObjectSync = "synced"
	ObjectDrifted ObjectSync = "drifted"
	// ObjectWaits: git asks for something else, and a gate holds it.
	ObjectWaits ObjectSync = "waits"
	// ObjectFailed: the last run could not do what git asks for.
	ObjectFailed ObjectSync = "failed"
	// ObjectUnwanted: git no longer asks for it, and it is still there.
	ObjectUnwanted ObjectSync = "unwanted"
	// ObjectUnknown: it was not compared yet.
	ObjectUnknown ObjectSync = "unknown"
)

// Object is one thing of an environment, and how it stands.
type Object struct {
	Object sources.ID `json:"object"`
	// Origin is where it was written down, and Digest begins the digest of what is
	// desired; empty where that is sensitive, since a digest confirms guesses.
	Origin    sources.Origin `json:"origin,omitzero"`
	Digest    string         `json:"digest,omitempty"`
	Sensitive bool           `json:"sensitive,omitempty"`
	Sync      ObjectSync     `json:"sync"`
	// Why explains it, where it is not in sync.
	Why string `json:"why,omitempty"`
	// Drift is the id of its open episode.
	Drift  string `json:"drift,omitempty"`
	Health Health `json:"health"`
	// Unready is why it does not work, and RootCause what is behind that.
	Unready   string `json:"unready,omitempty"`
	RootCause string `json:"rootCause,omitempty"`
	// LastApplied is when it was last written, and Run in which run, where that is
	// on record. The correction of a drift belongs to no run.
	LastApplied time.Time `json:"lastApplied,omitzero"`
	Run         string    `json:"run,omitempty"`
}

// shownDigest is how much of a digest is shown.
const shownDigest = 12

// Objects are the objects of an environment in the order of their identities; false
// where there is no such environment. They are as they stood at the call, and made
// one by one, so that a list of thousands costs what is kept of it.
func (e *Engine) Objects(name string) (iter.Seq[Object], bool) {
	e.mu.Lock()
	w := e.workers[name]
	e.mu.Unlock()
	if w == nil {
		return nil, false
	}
	w.mu.Lock()
	if w.order == nil {
		w.order = orderOf(w.items)
	}
	v := objectsView{
		items: w.items, order: w.order, failed: w.failed, unready: slices.Clone(w.waiting), health: w.health, compared: w.compared, removed: w.removed,
	}
	if w.last != nil {
		v.waiting = w.last.Waiting
	}
	w.mu.Unlock()
	episodes := e.book.List(func(d *drift.Episode) bool { return d.Environment == name && !d.Class.Foreign() })
	return v.objects(episodes), true
}

// orderOf are the places of items in the order of their identities; never nil.
func orderOf(items []sources.Item) []int32 {
	order := make([]int32, len(items))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return items[a].ID.Compare(items[b].ID) })
	return order
}

// objectsView is what of a worker says how its objects stand. None of the slices
// changes any more.
type objectsView struct {
	items []sources.Item
	// order is orderOf items.
	order             []int32
	failed            []ObjectChange
	waiting           []Waiting
	unready           []Unready
	health            Health
	compared, removed bool
}

// remark is what is known of an object beside what git asks for.
type remark struct {
	object sources.ID
	// stands: there is such an object, even where git does not ask for it.
	stands bool
	add    func(*Object)
}

// remarks are in the order of identities, and of one object in the order in which
// they are added.
func (v objectsView) remarks(episodes []drift.Episode) []remark {
	all := make([]remark, 0, len(v.waiting)+len(v.failed)+len(v.unready)+len(episodes))
	for _, w := range v.waiting {
		all = append(all, remark{w.Object, true, func(o *Object) {
			o.Why = w.Why
			if o.Sync != ObjectUnwanted {
				o.Sync = ObjectWaits
			}
		}})
	}
	for _, c := range v.failed {
		all = append(all, remark{c.Object, true, func(o *Object) { o.Sync, o.Why = ObjectFailed, c.Error }})
	}
	for _, u := range v.unready {
		all = append(all, remark{u.Object, false, func(o *Object) {
			o.Health, o.Unready, o.RootCause = HealthProgressing, u.Why, u.RootCause
			if u.Failed {
				o.Health = HealthFailed
			}
		}})
	}
	for _, e := range episodes {
		all = append(all, remark{e.Object, false, func(o *Object) { o.drifted(e) }})
	}
	slices.SortStableFunc(all, func(a, b remark) int { return a.object.Compare(b.object) })
	return all
}

// objects merges what git asks for with what is remarked; both are in order.
func (v objectsView) objects(episodes []drift.Episode) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		order, remarks := v.order, v.remarks(episodes)
		for len(order)+len(remarks) > 0 {
			o := Object{Sync: ObjectUnwanted, Health: HealthUnknown}
			exists := len(order) > 0 && (len(remarks) == 0 || v.items[order[0]].ID.Compare(remarks[0].object) <= 0)
			if exists {
				v.wanted(&o, &v.items[order[0]])
				order = order[1:]
			} else {
				o.Object = remarks[0].object
			}
			if len(remarks) > 0 && remarks[0].object == o.Object {
				o, exists, remarks = remarked(o, exists, remarks)
			}
			if exists && !yield(o) {
				return
			}
		}
	}
}

// remarked is an object with what is remarked of it, whether it exists then, and the
// other remarks.
func remarked(o Object, exists bool, all []remark) (Object, bool, []remark) {
	for len(all) > 0 && all[0].object == o.Object {
		if exists = exists || all[0].stands; exists {
			all[0].add(&o)
		}
		all = all[1:]
	}
	return o, exists, all
}

// wanted is how an item stands of which nothing else is known.
func (v objectsView) wanted(o *Object, item *sources.Item) {
	o.Object, o.Origin, o.Sensitive, o.Sync = item.ID, item.Origin, item.Sensitive, ObjectSynced
	if !item.Sensitive {
		o.Digest = item.Digest[:min(len(item.Digest), shownDigest)]
	}
	switch {
	case v.removed:
		o.Sync, o.Why = ObjectUnwanted, "its environment left git"
	case !v.compared:
		o.Sync = ObjectUnknown
	}
	switch v.health {
	case HealthReady, HealthProgressing, HealthFailed:
		o.Health = HealthReady
	}
}

// drifted adds what an episode tells.
func (o *Object) drifted(e drift.Episode) {
	if e.State == drift.Corrected && e.Ended.After(o.LastApplied) {
		o.LastApplied = e.Ended
	}
	if !e.Ended.IsZero() {
		return
	}
	o.Drift = e.ID
	if o.Sync == ObjectSynced || o.Sync == ObjectUnknown {
		o.Sync, o.Why = ObjectDrifted, e.Next
	}
}

// EnvironmentHold is a hold with what it is on.
type EnvironmentHold struct {
	// Environment is empty for a hold on everything.
	Environment string `json:"environment,omitempty"`
	// Target is where a hold on everything is kept.
	Target string `json:"target,omitempty"`
	Hold
}

// EnvironmentDecision is what somebody decided about drift of an environment.
type EnvironmentDecision struct {
	Environment string `json:"environment"`
	drift.Decision
}

// Decided is what counts of what people decided.
type Decided struct {
	Holds     []EnvironmentHold     `json:"holds"`
	Decisions []EnvironmentDecision `json:"decisions"`
	// Unread says of which environments, or targets, that could not be read.
	Unread map[string]string `json:"unread,omitempty"`
}

// Decided are all holds and decisions that count now. Where a target's state is
// watched, it costs no request.
func (e *Engine) Decided(ctx context.Context) Decided {
	out, now := Decided{Holds: []EnvironmentHold{}, Decisions: []EnvironmentDecision{}}, time.Now()
	unread := func(what string, err error) {
		if out.Unread == nil {
			out.Unread = map[string]string{}
		}
		out.Unread[what] = err.Error()
	}
	for name, d := range e.opts.Drivers {
		k, ok := d.(Keeper)
		if !ok {
			continue
		}
		state, err := k.State(ctx, "")
		if err != nil {
			unread("target "+name, err)
			continue
		}
		for _, h := range state.activeHolds(now) {
			out.Holds = append(out.Holds, EnvironmentHold{Target: name, Hold: h})
		}
	}
	for _, w := range e.all() {
		_, k, err := w.keeper()
		if err != nil {
			continue // its target keeps nothing, so that there is nothing
		}
		state, err := k.State(ctx, w.name)
		if err != nil {
			unread(w.name, err)
			continue
		}
		for _, h := range state.activeHolds(now) {
			out.Holds = append(out.Holds, EnvironmentHold{Environment: w.name, Hold: h})
		}
		for _, d := range state.Decisions {
			if d.Until.After(now) {
				out.Decisions = append(out.Decisions, EnvironmentDecision{Environment: w.name, Decision: d})
			}
		}
	}
	slices.SortStableFunc(out.Holds, func(a, b EnvironmentHold) int { return a.Until.Compare(b.Until) })
	slices.SortStableFunc(out.Decisions, func(a, b EnvironmentDecision) int { return a.Until.Compare(b.Until) })
	return out
}
