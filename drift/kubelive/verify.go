package kubelive

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/sources"
)

// verifyPage is how many objects one request of a verification reads in full.
const verifyPage = 100

// Watched is one resource, and where it is limited to some one namespace, that
// the watcher keeps a watch on.
type Watched struct {
	Resource  Resource
	Namespace string
}

// Watched are all that are watched now.
func (w *Watcher) Watched() []Watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]Watched, 0, len(w.streams))
	for _, s := range w.streams {
		out = append(out, Watched{Resource: s.resource, Namespace: s.namespace})
	}
	return out
}

// Verified is what a verification found.
type Verified struct {
	// Objects were read, Doubted of them are not what was applied, and Requests
	// were sent.
	Objects, Doubted, Requests int
}

// Verify reads every labelled object of what is watched in full, page by page,
// and compares the values at the paths that we own with those that the server
// answered to our last apply. It trusts no watch: what differs, and what the
// index missed, is hinted at like any other drift. Wait is called before each
// request, and keeps the budget.
//
// No object is kept: a page is dropped when it has been looked at. A list that
// breaks off is an error, and nothing is concluded from what it did not show.
func (c *Cluster) Verify(ctx context.Context, what []Watched, wait func(context.Context) error) (Verified, error) {
	var sum Verified
	var failed error
	for _, w := range what {
		if err := c.verify(ctx, w, wait, &sum); err != nil {
			if ctx.Err() != nil {
				return sum, ctx.Err()
			}
			failed = fmt.Errorf("verify %s: %w", w.Resource.GVR.GroupResource(), err)
		}
	}
	return sum, failed
}

func (c *Cluster) verify(ctx context.Context, w Watched, wait func(context.Context) error, sum *Verified) error {
	seen := map[sources.ID]Record{}
	version := ""
	options := metav1.ListOptions{LabelSelector: LabelEnvironment, Limit: verifyPage}
	for {
		if err := wait(ctx); err != nil {
			return err
		}
		sum.Requests++
		list, err := c.Objects.Resource(w.Resource.GVR).Namespace(w.Namespace).List(ctx, options)
		if err != nil {
			return err
		}
		if version == "" {
			version = list.GetResourceVersion()
		}
		for i := range list.Items {
			object := &list.Items[i]
			id := sources.ID{Group: w.Resource.GVR.Group, Kind: w.Resource.Kind, Namespace: object.GetNamespace(), Name: object.GetName()}
			seen[id] = recordOf(object)
			sum.Objects++
			if c.Index.verify(id, object) {
				sum.Doubted++
			}
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			break
		}
	}
	kind := schema.GroupKind{Group: w.Resource.GVR.Group, Kind: w.Resource.Kind}
	covers := func(id sources.ID) bool {
		return GroupKind(id) == kind && (w.Namespace == "" || id.Namespace == w.Namespace)
	}
	c.Index.replace(covers, seen, version)
	return nil
}

// verify compares an object, as just read, with its baseline. If it is another
// than the baseline says, and not older than what the index knows, it is doubted
// from now on, and hinted at.
func (x *Index) verify(id sources.ID, object *unstructured.Unstructured) (doubted bool) {
	x.mu.Lock()
	e := x.entries[id]
	if e == nil || e.base == nil || e.writing > 0 || e.expectGone ||
		e.live != nil && newer(e.live.ResourceVersion, object.GetResourceVersion()) {
		x.mu.Unlock()
		return false // unknown, just being written, or known better
	}
	base := *e.base
	x.mu.Unlock()
	if base.Matches(object, Owner{Environment: base.Environment, ID: base.PartOf, Manager: managerOf(base.PartOf)}) {
		return false
	}
	x.mu.Lock()
	if e = x.entries[id]; e == nil || e.base == nil || e.writing > 0 || e.base.ResourceVersion != base.ResourceVersion {
		x.mu.Unlock()
		return false // written meanwhile
	}
	e.doubted = true
	x.versions[e.environment]++
	hint := Hint{Environment: e.environment, Object: id}
	x.mu.Unlock()
	x.changed(hint)
	return true
}
