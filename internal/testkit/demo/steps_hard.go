package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// resyncIsSilent counts by the server's own counter. That counts the control
// plane's controllers too, which now and then look at something by themselves, so
// the quietest of a few resyncs counts.
func resyncIsSilent(ctx context.Context, g *guide) (told, error) {
	var out told
	for range 5 {
		before, err := g.cluster.Requests(ctx)
		if err != nil {
			return out, err
		}
		began := time.Now()
		runs, err := g.daemon.Client().Resync(ctx, stepTime)
		if err != nil {
			return out, err
		}
		out.took = time.Since(began)
		after, err := g.cluster.Requests(ctx)
		if err != nil {
			return out, err
		}
		for _, r := range runs {
			if r.Result != reconciler.Unchanged {
				return out, fmt.Errorf("the resync of %s ended as %s: %v", r.Environment, r.Result, r.Errors)
			}
		}
		sent := after.Since(before)
		out.said = []string{fmt.Sprintf("%d environments unchanged, %d requests %s", len(runs), sent.Total(), sent)}
		if sent.Total() == 0 {
			return out, nil
		}
	}
	return out, errors.New("every resync came with requests")
}

const brokenFile = "plain/broken.yaml"

// brokenIsRefused measures from the broken commit to the error being shown.
func brokenIsRefused(ctx context.Context, g *guide) (told, error) {
	settings := configMap("tools", "dashboard")
	before, err := g.get(ctx, settings)
	if err != nil {
		return told{}, err
	}
	began := time.Now()
	if _, err := g.repo.Commit(map[string]string{
		brokenFile:             "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: broken\ndata: [\n",
		"plain/dashboard.yaml": rig.Delete, // must not be obeyed while the rest cannot be read
	}); err != nil {
		return told{}, err
	}
	out := told{}
	err = g.awaitEnvironment(ctx, "tools", func(s reconciler.Status) error {
		for _, p := range s.Errors {
			if p.File == brokenFile && p.Line > 0 {
				out.said = append(out.said, p.Error())
				return nil
			}
		}
		return fmt.Errorf("it does not name a line of %s: %v", brokenFile, s.Errors)
	})
	out.took = time.Since(began)
	if err != nil {
		return out, err
	}
	if err := g.stillGuarded(ctx, &out, settings, before); err != nil {
		return out, err
	}
	files, err := rig.Files("examples/shop")
	if err != nil {
		return out, err
	}
	fixed := strings.Replace(files["plain/dashboard.yaml"], "theme: dark", "theme: light", 1)
	began = time.Now()
	commit, err := g.repo.Commit(map[string]string{brokenFile: rig.Delete, "plain/dashboard.yaml": fixed})
	if err != nil {
		return out, err
	}
	if err := g.await(ctx, settings, field("light", "data", "theme")); err != nil {
		return out, err
	}
	out.said = append(out.said, fmt.Sprintf("the fix was live after %.3f s", time.Since(began).Seconds()))
	return out, g.awaitEnvironment(ctx, "tools", cleanAt(commit))
}

// stillGuarded sees that beside a broken head nothing is deleted, drift is put
// back, and the other environments go on.
func (g *guide) stillGuarded(ctx context.Context, out *told, p place, before *unstructured.Unstructured) error {
	began := time.Now()
	if err := g.edit(ctx, p, `{"data":{"theme":"pink"}}`); err != nil {
		return err
	}
	if err := g.await(ctx, p, field("dark", "data", "theme")); err != nil {
		return err
	}
	out.said = append(out.said, fmt.Sprintf("meanwhile an edit by hand was healed after %.3f s", time.Since(began).Seconds()))
	live, err := g.get(ctx, p)
	if err != nil {
		return err
	}
	if live.GetUID() != before.GetUID() {
		return fmt.Errorf("%s was deleted and made again", p)
	}
	for _, name := range []string{"dev", "staging", "prod"} {
		status, err := g.daemon.Client().Environment(ctx, name)
		if err != nil {
			return err
		}
		if status.Sync != reconciler.SyncClean {
			return fmt.Errorf("environment %s is %s: %v", name, status.Sync, status.Errors)
		}
	}
	return nil
}

// crowd is how many objects the interrupted change adds, and leavers how many of
// those that were made leave git while the daemon is dead.
const (
	crowd   = 400
	leavers = 3
)

// killedConverges measures from the restart to everything being as git says.
func killedConverges(ctx context.Context, g *guide) (told, error) {
	if _, err := g.repo.Commit(map[string]string{"plain/crowd.yaml": crowdFile(nil)}); err != nil {
		return told{}, err
	}
	if err := g.awaitFirst(ctx); err != nil {
		return told{}, err
	}
	if err := g.daemon.Kill(); err != nil {
		return told{}, err
	}
	made, err := g.members(ctx)
	if err != nil {
		return told{}, err
	}
	out := told{said: []string{fmt.Sprintf("killed when %d of %d objects had been made", len(made), crowd)}}
	// Of what was just made, some leaves git before anybody could note it down.
	left := made[:min(leavers, len(made))]
	commit, err := g.repo.Commit(map[string]string{"plain/crowd.yaml": crowdFile(left)})
	if err != nil {
		return out, err
	}
	began := time.Now()
	if err := g.daemon.Start(); err != nil {
		return out, err
	}
	if err := g.awaitEnvironment(ctx, "tools", cleanAt(commit)); err != nil {
		return out, err
	}
	out.took = time.Since(began)
	for _, name := range left {
		if err := g.awaitGone(ctx, configMap("tools", name)); err != nil {
			return out, err
		}
	}
	if made, err = g.members(ctx); err != nil {
		return out, err
	}
	if len(made) != crowd-len(left) {
		return out, fmt.Errorf("%d objects of the change are live, and git has %d", len(made), crowd-len(left))
	}
	out.said = append(out.said, fmt.Sprintf("restarted: %d are live, and the %d that left git meanwhile are gone", len(made), len(left)))
	return out, nil
}

// crowdFile is a manifest of the crowd without some members.
func crowdFile(without []string) string {
	var b strings.Builder
	for i := range crowd {
		name := fmt.Sprintf("crowd-%03d", i)
		if !slices.Contains(without, name) {
			fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  labels: {crowd: \"yes\"}\ndata:\n  number: \"%d\"\n", name, i)
		}
	}
	return b.String()
}

var crowdList = metav1.ListOptions{LabelSelector: "crowd=yes," + kubelive.LabelEnvironment + "=tools"}

// members are the names of the crowd that are live and labelled as ours.
func (g *guide) members(ctx context.Context) ([]string, error) {
	p := configMap("tools", "")
	list, err := g.cluster.Objects.Resource(p.GroupVersionResource).Namespace(p.namespace).List(ctx, crowdList)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].GetName())
	}
	return names, nil
}

// awaitFirst returns at the moment the first of the crowd is live. A watch, since
// by the next poll all of them would be.
func (g *guide) awaitFirst(ctx context.Context) error {
	p := configMap("tools", "")
	w, err := g.cluster.Objects.Resource(p.GroupVersionResource).Namespace(p.namespace).Watch(ctx, crowdList)
	if err != nil {
		return err
	}
	defer w.Stop()
	select {
	case _, open := <-w.ResultChan():
		if !open {
			return errors.New("the watch for the first object ended")
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
