package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

// revertedEvents are the events about an object.
func (w *world) revertedEvents(name string) (out []unstructured.Unstructured) {
	w.t.Helper()
	list, err := w.objects.Resource(eventResource).Namespace(w.namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range list.Items {
		about, _, _ := unstructured.NestedString(e.Object, "regarding", "name")
		if reason, _, _ := unstructured.NestedString(e.Object, "reason"); about == name && reason == "DriftReverted" {
			out = append(out, e)
		}
	}
	return out
}

// An object that was put back carries an event that says whose change that was and
// how to keep it; soon after there is no second one.
func TestARevertLeavesOneEventOnTheObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.items(shop))
	episode := drift.Episode{
		Environment: w.name, Object: sources.ID{Kind: "ConfigMap", Namespace: w.namespace, Name: "settings"}, State: drift.Corrected, Ended: time.Now(),
		Origin: sources.Origin{File: "app/settings.yaml", Line: 3},
		Changes: []drift.Change{
			{Path: ".data.color", Desired: drift.NewValue("blue", false), Live: drift.NewValue("red", false), Manager: "kubectl-edit"},
			{Path: ".data.token", Desired: drift.NewValue("planted", true), Live: drift.NewValue("planted", true), Manager: "kubectl-edit"},
		},
	}
	other := episode
	other.Object.Name = "nobody"
	w.target.Announce(episode)
	w.target.Announce(episode)
	still := episode
	still.State = drift.Persists
	still.Object.Name = "persists"
	w.target.Announce(still)
	w.target.Announce(other) // they are written in order
	w.eventually("the last event is there", func() bool { return len(w.revertedEvents("nobody")) == 1 })
	if n := len(w.revertedEvents("persists")); n != 0 {
		t.Errorf("%d events on what was not put back", n)
	}
	events := w.revertedEvents("settings")
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	note, _, _ := unstructured.NestedString(events[0].Object, "note")
	for _, want := range []string{
		w.name, `.data.color = "blue", was "red" by kubectl-edit`, "(sensitive)",
		"kubectl annotate configmaps settings -n " + w.namespace + " holdfast.dev/hold-until=TIME", "app/settings.yaml:3",
	} {
		if !strings.Contains(note, want) {
			t.Errorf("the note lacks %q: %s", want, note)
		}
	}
	if strings.Contains(note, "planted") {
		t.Errorf("the note holds a secret: %s", note)
	}
	if uid, _, _ := unstructured.NestedString(events[0].Object, "regarding", "uid"); uid == "" {
		t.Error("the event does not say which object of that name it is about")
	}
}

// Events are bounded: one for an object in a while, and so many for the target.
func TestEventsAreBounded(t *testing.T) {
	a, now := newAnnouncer(), time.Now()
	id := func(i int) sources.ID { return sources.ID{Kind: "ConfigMap", Name: fmt.Sprint(i)} }
	if !a.due(id(0), now) || a.due(id(0), now.Add(announceEvery-time.Second)) || !a.due(id(0), now.Add(announceEvery)) {
		t.Error("an object's events are not spaced")
	}
	a, n := newAnnouncer(), 0
	for i := range 10 * announcePerMinute {
		if a.due(id(i), now) {
			n++
		}
	}
	if n != announcePerMinute {
		t.Errorf("%d events at once", n)
	}
}

// However long names and values are, the server takes the note.
func TestNotesAreBounded(t *testing.T) {
	long := strings.Repeat("ä", 4000)
	e := drift.Episode{Environment: "prod", Object: sources.ID{Kind: "ConfigMap", Namespace: "shop", Name: strings.Repeat("n", 253)}, Origin: sources.Origin{File: long}}
	for range 10 {
		e.Changes = append(e.Changes, drift.Change{Path: "." + long, Desired: drift.NewValue(long, false), Live: drift.NewValue(long, false), Manager: long})
	}
	note := eventNote(e, kubelive.Resource{})
	if len(note) > maxEventNote || !strings.Contains(note, "hold-until") {
		t.Errorf("%d bytes: %s", len(note), note)
	}
}
