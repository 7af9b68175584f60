package events

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// world is how things stand.
type world struct {
	mu      sync.Mutex
	all     []reconciler.Status
	sources []api.Source
	asked   int
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) environments() []reconciler.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	return append([]reconciler.Status(nil), w.all...)
}

func (w *world) environment(name string) (reconciler.Status, bool) {
	for _, s := range w.environments() {
		if s.Name == name {
			return s, true
		}
	}
	return reconciler.Status{}, false
}

func (w *world) listSources() []api.Source {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]api.Source(nil), w.sources...)
}

// running is a hub over two environments.
func running(t *testing.T, o Options) (*Hub, *world) {
	t.Helper()
	w := &world{all: []reconciler.Status{{Name: "dev", Sync: reconciler.SyncClean}, {Name: "prod", Sync: reconciler.SyncClean}}}
	o.Environments, o.Environment, o.Sources = w.environments, w.environment, w.listSources
	o.Pause = time.Millisecond
	h := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return h, w
}

// next are the events that a follower gets until there are n.
func next(t *testing.T, f *Follower, n int) []api.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out []api.Event
	for len(out) < n {
		entries, err := f.Next(ctx)
		if err != nil || len(entries) == 0 {
			t.Fatalf("after %d of %d events: %v", len(out), n, err)
		}
		for _, e := range entries {
			out = append(out, eventOf(t, e))
		}
	}
	if len(out) > n {
		t.Fatalf("%d events, want %d: %+v", len(out), n, out)
	}
	return out
}

func eventOf(t *testing.T, e Entry) api.Event {
	t.Helper()
	text := string(e.Frame)
	_, data, ok := strings.Cut(text, "\ndata: ")
	if !ok || !strings.HasPrefix(text, "id: ") || !strings.HasSuffix(text, "\n\n") || strings.Contains(strings.TrimSuffix(data, "\n\n"), "\n") {
		t.Fatalf("no frame: %q", text)
	}
	var out api.Event
	if err := json.Unmarshal([]byte(data), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func ended(id string) reconciler.Run {
	return reconciler.Run{ID: id, Environment: "dev", Result: reconciler.Applied, Changes: make([]reconciler.ObjectChange, 3)}
}

func TestWhoFollowsGetsEverythingInOrderAndCanResume(t *testing.T) {
	h, _ := running(t, Options{})
	f, resumed := h.Follow("")
	defer f.Close()
	if resumed {
		t.Error("nothing can be resumed without an id")
	}
	for _, id := range []string{"run-1", "run-2", "run-3"} {
		h.RunEnded(ended(id))
	}
	all := next(t, f, 3)
	for i, e := range all {
		if e.Type != api.EventRunEnded || e.Environment != "dev" || e.Run.ID != "run-"+string(rune('1'+i)) || e.Run.Changes != nil {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	again, resumed := h.Follow(all[0].ID)
	defer again.Close()
	if rest := next(t, again, 2); !resumed || rest[0].ID != all[1].ID || rest[1].ID != all[2].ID {
		t.Errorf("resumed %v: %+v", resumed, rest)
	}
	for _, id := range []string{"elsewhere-1", "nonsense", h.epoch + "-", h.epoch + "-x", h.epoch + "-99"} {
		other, resumed := h.Follow(id)
		if resumed {
			t.Errorf("%q is resumed from", id)
		}
		other.Close()
	}
}

func TestAnIDThatIsTooOldIsNotResumedFromAndASlowReaderIsTold(t *testing.T) {
	h, _ := running(t, Options{Keep: 4})
	slow, _ := h.Follow("")
	defer slow.Close()
	f, _ := h.Follow("")
	defer f.Close()
	first := ""
	for i := range 6 {
		h.RunEnded(ended("run"))
		if e := next(t, f, 1)[0]; i == 0 {
			first = e.ID
		}
	}
	if _, err := slow.Next(t.Context()); !errors.Is(err, ErrBehind) {
		t.Errorf("a reader that fell out of the ring is told %v", err)
	}
	late, resumed := h.Follow(first)
	defer late.Close()
	if resumed {
		t.Error("events between are lost, and nobody is told")
	}
	if h.ring.add(h.epoch, api.Event{}); len(h.ring.entries) != 4 {
		t.Errorf("%d events are kept", len(h.ring.entries))
	}
}

func TestTheRingIsBoundedByBytes(t *testing.T) {
	r := ring{keep: 1000, keepBytes: 2000, next: 1}
	for range 50 {
		r.add("e", api.Event{Type: api.EventHold})
		size := 0
		for _, e := range r.entries {
			size += len(e.Frame)
		}
		if size != r.bytes || size > 2000 {
			t.Fatalf("%d bytes, counted %d", size, r.bytes)
		}
	}
	if len(r.entries) < 10 || r.first() != 51-uint64(len(r.entries)) {
		t.Errorf("%d events from %d", len(r.entries), r.first())
	}
}

func TestChangesOfAnEnvironmentBecomeOneEventAndNoChangeNone(t *testing.T) {
	h, w := running(t, Options{})
	f, _ := h.Follow("")
	defer f.Close()
	h.StatusChanged("prod") // which is not so
	w.set(func() { w.all[0].Sync, w.all[0].OpenDrifts = reconciler.SyncDrifted, 2 })
	for range 100 {
		h.StatusChanged("dev")
	}
	got := next(t, f, 1)[0]
	if got.Type != api.EventEnvironment || got.Environment != "dev" || got.Status.Sync != reconciler.SyncDrifted || got.Status.OpenDrifts != 2 {
		t.Errorf("%+v", got)
	}
	w.set(func() { w.all = w.all[1:] })
	h.StatusChanged("dev")
	if got := next(t, f, 1)[0]; got.Type != api.EventEnvironmentGone || got.Environment != "dev" {
		t.Errorf("%+v", got)
	}
}

func TestWhatChangesWithoutAWordIsNoticedWhileSomebodyFollows(t *testing.T) {
	h, w := running(t, Options{Sweep: 5 * time.Millisecond})
	f, _ := h.Follow("")
	defer f.Close()
	w.set(func() {
		w.all[1].Sync = reconciler.SyncStale
		w.sources = []api.Source{{Name: "shop", Failures: 1, Revision: sources.Revision{ID: "abc"}}}
	})
	got := next(t, f, 2)
	if got[0].Environment != "prod" || got[0].Status.Sync != reconciler.SyncStale || got[1].Source == nil || !got[1].Source.Failing {
		t.Errorf("%+v", got)
	}
}

// await waits for a condition.
func await(t *testing.T, what func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !what() {
		select {
		case <-deadline:
			t.Fatal("it never happened")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWhileNobodyFollowsNothingIsMade(t *testing.T) {
	h, w := running(t, Options{Idle: time.Millisecond, Sweep: time.Millisecond})
	before := h.Version()
	h.RunEnded(ended("run-1"))
	h.StatusChanged("dev")
	if h.Version() != before+2 {
		t.Error("the version does not tell")
	}
	f, _ := h.Follow("")
	id := f.At()
	f.Close()
	asleep := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return !h.awake
	}
	await(t, asleep)
	h.looking.Lock() // no round is under way
	w.set(func() { w.asked = 0 })
	h.looking.Unlock()
	quiet, resumed := h.Follow(id)
	quiet.Close()
	if !resumed {
		t.Error("nothing happened meanwhile, and yet everything is read again")
	}
	await(t, asleep)
	asked := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.asked
	}
	n := asked()
	for range 50 {
		h.RunEnded(ended("run-2"))
		h.StatusChanged("dev")
	}
	if asked() != n {
		t.Error("status is read for nobody")
	}
	missed, resumed := h.Follow(id)
	missed.Close()
	if resumed {
		t.Error("what happened while nobody followed is lost without a word")
	}
	// A page that is read now says where to follow from.
	at := h.ID()
	page, resumed := h.Follow(at)
	defer page.Close()
	if !resumed {
		t.Error("a page that was just read cannot be brought up to date")
	}
}

func TestEventsOfDriftNameFieldsAndHoldNoValues(t *testing.T) {
	h, _ := running(t, Options{})
	f, _ := h.Follow("")
	defer f.Close()
	e := drift.Episode{ID: "e1", Environment: "prod", Object: sources.ID{Kind: "Secret", Namespace: "shop", Name: "db"}, State: drift.Open}
	for range 20 {
		e.Changes = append(e.Changes, drift.Change{
			Path: ".data.password" + strings.Repeat("x", 1000), Desired: drift.NewValue("sentinel-old", true), Live: drift.NewValue("sentinel-plain", false), Manager: "kubectl-edit",
		})
	}
	h.DriftSeen(e, time.Second)
	h.DriftEnded(e)
	h.Acted(ledger.Action{Verb: "hold", Actor: "ann", Environment: "prod"})
	h.Acted(ledger.Action{Verb: "ledger-backup", Actor: "ann"}) // which concerns nobody
	h.Acted(ledger.Action{Verb: "accept", Actor: "ann", Environment: "prod"})
	got := next(t, f, 4)
	d := got[0].Drift
	if got[0].Type != api.EventDriftOpened || got[1].Type != api.EventDriftEnded || got[2].Type != api.EventHold || got[3].Type != api.EventDecision {
		t.Errorf("%+v", got)
	}
	if len(d.Fields) != 8 || d.MoreFields != 12 || d.Manager != "kubectl-edit" || len(d.Fields[0]) > 300 {
		t.Errorf("%+v", d)
	}
	for _, entry := range h.ring.entries {
		if strings.Contains(string(entry.Frame), "sentinel") {
			t.Errorf("a value shows: %s", entry.Frame)
		}
	}
}

func TestAFloodMakesFollowersBeginAnewInsteadOfFillingTheMemory(t *testing.T) {
	h := New(Options{
		Environments: func() []reconciler.Status { return nil }, Sources: func() []api.Source { return nil },
		Environment: func(string) (reconciler.Status, bool) { return reconciler.Status{}, false },
	})
	f, _ := h.Follow("")
	defer f.Close()
	for range maxQueue + 10 {
		h.RunEnded(ended("run"))
	}
	if len(h.queue) != maxQueue {
		t.Errorf("%d wait", len(h.queue))
	}
	h.round()
	if _, err := f.Next(t.Context()); !errors.Is(err, ErrBehind) {
		t.Errorf("got %v", err)
	}
}
