package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// foreign is an object that somebody else put into a namespace of ours.
type foreign struct {
	place
	uid, version string
}

// prepare starts the daemon's process; the first step waits for what it does.
func (g *guide) prepare(context.Context) error {
	fmt.Println("starting holdfast")
	return g.daemon.Start()
}

// allApplied measures from the daemon's start, empty data directory and empty
// cluster, to every object live.
func allApplied(ctx context.Context, g *guide) (told, error) {
	began := time.Now()
	if err := g.daemon.WaitReady(ctx); err != nil {
		return told{}, err
	}
	var out told
	for _, name := range []string{"dev", "prod", "staging", "tools"} {
		err := g.awaitEnvironment(ctx, name, func(s reconciler.Status) error {
			if s.Sync != reconciler.SyncClean || s.Applied.ID == "" || s.Applied.ID != s.Head.ID {
				return fmt.Errorf("it is %s: %v", s.Sync, s.Errors)
			}
			out.said = append(out.said, fmt.Sprintf("%-8s %s, %d objects at %s", name, s.Sync, s.Objects, s.Applied.Short()))
			return nil
		})
		if err != nil {
			return out, err
		}
	}
	out.took = time.Since(began)
	if err := g.await(ctx, deployment("shop-prod", "web"), field("3", "spec", "replicas")); err != nil {
		return out, err
	}
	return out, g.addForeign(ctx)
}

// addForeign puts things that are not ours beside ours: one plain, and one that
// was copied with all of our labels.
func (g *guide) addForeign(ctx context.Context) error {
	ours, err := g.get(ctx, configMap("tools", "dashboard"))
	if err != nil {
		return err
	}
	for name, labels := range map[string]map[string]string{
		"by-hand": nil,
		"copied":  ours.GetLabels(),
	} {
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"mine": "yes"},
		}}
		object.SetName(name)
		object.SetLabels(labels)
		p := configMap("tools", name)
		live, err := g.cluster.Objects.Resource(p.GroupVersionResource).Namespace(p.namespace).
			Create(ctx, object, metav1.CreateOptions{FieldManager: editor})
		if err != nil {
			return err
		}
		g.foreign = append(g.foreign, foreign{p, string(live.GetUID()), live.GetResourceVersion()})
	}
	if ours.GetLabels()[kubelive.LabelEnvironment] != "tools" {
		return errors.New("our own object does not carry its environment's label")
	}
	return nil
}

// editIsHealed measures from the edit to the healed value being read.
func editIsHealed(ctx context.Context, g *guide) (told, error) {
	web, settings := deployment("shop-dev", "web"), configMap("tools", "dashboard")
	began := time.Now()
	if err := g.edit(ctx, web, `{"spec":{"replicas":4}}`); err != nil {
		return told{}, err
	}
	if err := g.await(ctx, web, field("1", "spec", "replicas")); err != nil {
		return told{}, err
	}
	out := told{took: time.Since(began)}
	if err := g.reported(ctx, &out, web, began, want{".spec.replicas", "1", "4", editor}); err != nil {
		return out, err
	}
	began = time.Now()
	if err := g.edit(ctx, settings, `{"data":{"theme":null}}`); err != nil {
		return out, err
	}
	if err := g.await(ctx, settings, field("dark", "data", "theme")); err != nil {
		return out, err
	}
	// A field that was taken away leaves no trace of who did it.
	return out, g.reported(ctx, &out, settings, began, want{".data.theme", `"dark"`, "(absent)", drift.Unknown})
}

// want is a change that a report must hold.
type want struct{ path, desired, live, manager string }

func (g *guide) reported(ctx context.Context, out *told, p place, since time.Time, w want) error {
	e, err := g.awaitEpisode(ctx, p, since)
	if err != nil {
		return err
	}
	for _, c := range e.Changes {
		got := want{c.Path, c.Desired.String(), c.Live.String(), c.Manager}
		out.said = append(out.said, fmt.Sprintf("%s %s: was %s, git says %s, by %s", p, got.path, got.live, got.desired, got.manager))
		if got == w {
			return nil
		}
	}
	return fmt.Errorf("the report of %s does not say %+v: %+v", p, w, e.Changes)
}

// deletedComesBack measures from the deletion to another object in its place.
func deletedComesBack(ctx context.Context, g *guide) (told, error) {
	web := service("shop-staging", "web")
	before, err := g.get(ctx, web)
	if err != nil {
		return told{}, err
	}
	began := time.Now()
	if err := g.delete(ctx, web); err != nil {
		return told{}, err
	}
	err = g.await(ctx, web, func(live *unstructured.Unstructured) error {
		if live.GetUID() == before.GetUID() {
			return errors.New("it is still the old one")
		}
		return nil
	})
	out := told{took: time.Since(began)}
	if err != nil {
		return out, err
	}
	e, err := g.awaitEpisode(ctx, web, began)
	if err == nil && e.Class != drift.Missing {
		err = fmt.Errorf("the drift of %s is reported as %s", web, e.Class)
	}
	out.said = append(out.said, fmt.Sprintf("%s: %s, %s", web, e.Class, e.State))
	return out, err
}

// commitIsApplied measures from the commit to the new value live, the wait for
// the next poll included.
func commitIsApplied(ctx context.Context, g *guide) (told, error) {
	began := time.Now()
	commit, err := g.change("plain/dashboard.yaml", "refresh: 10s", "refresh: 5s")
	if err != nil {
		return told{}, err
	}
	err = g.await(ctx, configMap("tools", "dashboard"), field("5s", "data", "refresh"))
	out := told{took: time.Since(began), said: []string{fmt.Sprintf("polled every %s", g.daemon.Interval)}}
	if err != nil {
		return out, err
	}
	return out, g.awaitEnvironment(ctx, "tools", cleanAt(commit))
}

// change commits the replacement of a text in a file of the samples.
func (g *guide) change(file, from, to string) (string, error) {
	files, err := rig.Files("examples/shop")
	if err != nil {
		return "", err
	}
	if !strings.Contains(files[file], from) {
		return "", fmt.Errorf("examples/shop/%s does not say %q any more", file, from)
	}
	return g.repo.Commit(map[string]string{file: strings.Replace(files[file], from, to, 1)})
}

// removedIsPruned measures from the commit to the object being gone.
func removedIsPruned(ctx context.Context, g *guide) (told, error) {
	began := time.Now()
	commit, err := g.repo.Commit(map[string]string{"plain/banner.yaml": rig.Delete})
	if err != nil {
		return told{}, err
	}
	err = g.awaitGone(ctx, configMap("tools", "banner"))
	out := told{took: time.Since(began)}
	if err != nil {
		return out, err
	}
	return out, g.awaitEnvironment(ctx, "tools", cleanAt(commit))
}

// foreignStays looks at what was put there before the first edit: corrections, a
// commit and a prune have gone over it since.
func foreignStays(ctx context.Context, g *guide) (told, error) {
	began := time.Now()
	var out told
	for _, f := range g.foreign {
		live, err := g.get(ctx, f.place)
		if apierrors.IsNotFound(err) {
			return out, fmt.Errorf("%s is gone", f.place)
		}
		if err != nil {
			return out, err
		}
		if string(live.GetUID()) != f.uid || live.GetResourceVersion() != f.version {
			return out, fmt.Errorf("%s was written to", f.place)
		}
		out.said = append(out.said, f.String()+" is as it was")
	}
	slices.Sort(out.said)
	out.took = time.Since(began)
	return out, nil
}
