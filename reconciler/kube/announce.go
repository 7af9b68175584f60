package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Who changed something by hand finds out on the object itself that it was put
// back: an Event says what, whose value it was, and how to keep it. There is at
// most one for an object in announceEvery, and announcePerMinute for a target.
const (
	announceEvery     = 10 * time.Minute
	announcePerMinute = 60
	// announceQueue bounds those that wait; what finds no room is not announced.
	announceQueue = 256
	// maxAnnounced bounds the objects that are remembered.
	maxAnnounced = 4096
	// maxEventNote is the server's own bound of an event's note, in bytes
	// (events.k8s.io/v1).
	maxEventNote = 1024
	// maxEventFields is how many fields a note names.
	maxEventFields = 3
)

var eventResource = schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}

// announcer leaves events on objects that were put back.
type announcer struct {
	queue chan drift.Episode
	// What follows belongs to run.
	limit *rate.Limiter
	last  map[sources.ID]time.Time
}

func newAnnouncer() *announcer {
	return &announcer{
		queue: make(chan drift.Episode, announceQueue), last: map[sources.ID]time.Time{},
		limit: rate.NewLimiter(rate.Every(time.Minute/announcePerMinute), announcePerMinute),
	}
}

// Announce leaves an event on an object that was put back. It does not block: when
// too many wait, nothing is left.
func (t *Target) Announce(e drift.Episode) {
	if t.opts.NoEvents || e.State != drift.Corrected {
		return
	}
	select {
	case t.announcer.queue <- e:
	default:
	}
}

// announce writes the events until ctx ends.
func (t *Target) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-t.announcer.queue:
			if t.announcer.due(e.Object, time.Now()) {
				t.leaveEvent(ctx, e)
			}
		}
	}
}

// due reports whether an object's event may be written now.
func (a *announcer) due(id sources.ID, now time.Time) bool {
	if now.Sub(a.last[id]) < announceEvery || !a.limit.AllowN(now, 1) {
		return false
	}
	if len(a.last) >= maxAnnounced {
		for old, at := range a.last {
			if now.Sub(at) >= announceEvery {
				delete(a.last, old)
			}
		}
		if len(a.last) >= maxAnnounced {
			clear(a.last)
		}
	}
	a.last[id] = now
	return true
}

// leaveEvent writes one event, as the daemon itself.
func (t *Target) leaveEvent(ctx context.Context, e drift.Episode) {
	resource, err := t.cluster.Mapper.Peek(kubelive.GroupKind(e.Object))
	if err != nil {
		return // the kind is gone, and its objects with it
	}
	ctx, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
	defer cancel()
	event := revertedEvent(e, resource, t.uidOf(e.Object), t.opts.Holder)
	_, err = t.cluster.Objects.Resource(eventResource).Namespace(event.GetNamespace()).Create(ctx, event, metav1.CreateOptions{FieldManager: FieldManager})
	switch {
	case ctx.Err() != nil, apierrors.IsNotFound(err):
		// The end, or a namespace that is gone.
	case apierrors.IsForbidden(err):
		t.tellOnce("events on objects that are put back", fmt.Errorf("%w (hint: allow create of events.events.k8s.io, or set events: false at the target)", err))
	default:
		t.tellOnce("events on objects that are put back", err)
	}
}

func (t *Target) uidOf(id sources.ID) string { return string(t.cluster.Index.Look(id).Live.UID) }

// revertedEvent is an Event of events.k8s.io/v1 about an episode. Of things outside
// namespaces, events are in the namespace default.
func revertedEvent(e drift.Episode, resource kubelive.Resource, uid, holder string) *unstructured.Unstructured {
	namespace := e.Object.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	regarding := map[string]any{
		"apiVersion": resource.GVR.GroupVersion().String(), "kind": e.Object.Kind, "name": e.Object.Name,
	}
	if e.Object.Namespace != "" {
		regarding["namespace"] = e.Object.Namespace
	}
	if uid != "" {
		regarding["uid"] = uid
	}
	if holder == "" {
		holder = "holdfast"
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "events.k8s.io/v1", "kind": "Event",
		"metadata":            map[string]any{"generateName": "holdfast-reverted-", "namespace": namespace},
		"eventTime":           metav1.NewMicroTime(e.Ended).UTC().Format(metav1.RFC3339Micro),
		"reportingController": "holdfast.dev/holdfast", "reportingInstance": holder,
		"type": "Normal", "reason": "DriftReverted", "action": "Revert",
		"regarding": regarding, "note": eventNote(e, resource),
	}}
}

// eventNote says what was put back and how to keep it. Values mask themselves.
func eventNote(e drift.Episode, resource kubelive.Resource) string {
	var b strings.Builder
	fmt.Fprintf(&b, "environment %s put back what git says", e.Environment)
	for i, c := range e.Changes {
		switch {
		case i == maxEventFields:
			fmt.Fprintf(&b, "; and %d more", len(e.Changes)-i)
		case i > maxEventFields:
		case c.Path == "":
			b.WriteString(": the object was gone")
		default:
			separator := "; "
			if i == 0 {
				separator = ": "
			}
			fmt.Fprintf(&b, "%s%s = %s, was %s by %s", separator, cut(c.Path, 120), cut(c.Desired.String(), 60), cut(c.Live.String(), 60), cut(c.Manager, 60))
		}
	}
	how := fmt.Sprintf(". To keep a change for a while: kubectl annotate %s %s", resource.GVR.GroupResource(), e.Object.Name)
	if e.Object.Namespace != "" {
		how += " -n " + e.Object.Namespace
	}
	how += " " + annotationHoldUntil + "=TIME (as 2026-01-31T18:00:00Z); for good: change it in git"
	if e.Origin.File != "" {
		how += ", " + e.Origin.String()
	}
	return cut(b.String(), maxEventNote-min(len(how), maxEventNote/2)) + cut(how, maxEventNote/2)
}

// cut bounds a text in bytes, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}
