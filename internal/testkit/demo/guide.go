package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// editor is the field manager that kubectl edit writes under.
const editor = "kubectl-edit"

// guide plays the people of the story: who edits, deletes and commits.
type guide struct {
	*stage
	// foreign are objects that are not Holdfast's, with what they were like.
	foreign []foreign
}

// place is where an object is.
type place struct {
	schema.GroupVersionResource
	kind, namespace, name string
}

func (p place) String() string { return p.kind + "/" + p.namespace + "/" + p.name }

func configMap(namespace, name string) place {
	return place{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap", namespace, name}
}

func service(namespace, name string) place {
	return place{schema.GroupVersionResource{Version: "v1", Resource: "services"}, "Service", namespace, name}
}

func deployment(namespace, name string) place {
	return place{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "Deployment", namespace, name}
}

func (g *guide) get(ctx context.Context, p place) (*unstructured.Unstructured, error) {
	return g.cluster.Objects.Resource(p.GroupVersionResource).Namespace(p.namespace).Get(ctx, p.name, metav1.GetOptions{})
}

// edit changes an object by a merge patch, as kubectl edit does.
func (g *guide) edit(ctx context.Context, p place, patch string) error {
	_, err := g.cluster.Objects.Resource(p.GroupVersionResource).Namespace(p.namespace).
		Patch(ctx, p.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: editor})
	return err
}

func (g *guide) delete(ctx context.Context, p place) error {
	return g.cluster.Objects.Resource(p.GroupVersionResource).Namespace(p.namespace).Delete(ctx, p.name, metav1.DeleteOptions{})
}

// await waits until an object is as wanted; so says what else it is.
func (g *guide) await(ctx context.Context, p place, so func(*unstructured.Unstructured) error) error {
	err := rig.Until(ctx, func(ctx context.Context) error {
		live, err := g.get(ctx, p)
		if err != nil {
			return err
		}
		return so(live)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// awaitGone waits until an object is not there any more.
func (g *guide) awaitGone(ctx context.Context, p place) error {
	err := rig.Until(ctx, func(ctx context.Context) error {
		_, err := g.get(ctx, p)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return errors.New("it is still there")
	})
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// field wants a text or number at a path of the object.
func field(want string, path ...string) func(*unstructured.Unstructured) error {
	return func(live *unstructured.Unstructured) error {
		value, _, err := unstructured.NestedFieldNoCopy(live.Object, path...)
		if err != nil {
			return err
		}
		if got := fmt.Sprint(value); got != want {
			return fmt.Errorf("field %v is %s and not %s", path, got, want)
		}
		return nil
	}
}

// awaitEpisode waits for the report of a drift that was seen since a time and
// has been put back.
func (g *guide) awaitEpisode(ctx context.Context, p place, since time.Time) (drift.Episode, error) {
	var found drift.Episode
	err := rig.Until(ctx, func(ctx context.Context) error {
		report, err := g.daemon.Client().Drift(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(report.Episodes, func(e drift.Episode) bool {
			return e.Object.Kind == p.kind && e.Object.Namespace == p.namespace && e.Object.Name == p.name &&
				e.State == drift.Corrected && !e.FirstSeen.Before(since)
		})
		if i < 0 {
			return fmt.Errorf("no corrected drift of %s is reported", p)
		}
		found = report.Episodes[i]
		return nil
	})
	return found, err
}

// awaitEnvironment waits until an environment is as wanted.
func (g *guide) awaitEnvironment(ctx context.Context, name string, so func(reconciler.Status) error) error {
	err := rig.Until(ctx, func(ctx context.Context) error {
		status, err := g.daemon.Client().Environment(ctx, name)
		if err != nil {
			return err
		}
		return so(status)
	})
	if err != nil {
		return fmt.Errorf("environment %s: %w", name, err)
	}
	return nil
}

// cleanAt wants an environment to be as a commit says.
func cleanAt(commit string) func(reconciler.Status) error {
	return func(s reconciler.Status) error {
		if s.Sync != reconciler.SyncClean || s.Applied.ID != commit {
			return fmt.Errorf("it is %s at %q, and not clean at %q: %v", s.Sync, s.Applied.Short(), commit[:7], s.Errors)
		}
		return nil
	}
}
