package kube

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// TestExpiredWatchesAreListedAgainWithoutAStorm: each expiry costs one list of that
// kind and no other; nothing of it is drift, and what happened meanwhile is found.
func TestExpiredWatchesAreListedAgainWithoutAStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	var faults kube.Faults
	w.config = faults.Wrap(w.config)
	w.restart()
	w.run(items)
	w.eventually("it is clean", func() bool { return w.run(items).kinds() == "unchanged 4" })
	var mu sync.Mutex
	lists, watches := map[string]int{}, map[string]int{}
	note := func(r *http.Request) error {
		i := strings.LastIndex(r.URL.Path, "/")
		if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") || strings.Contains(r.URL.Path, "/namespaces/") {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if q := r.URL.Query(); q.Get("watch") == "" || q.Get("sendInitialEvents") == "true" {
			lists[r.URL.Path[i+1:]]++
		} else {
			watches[r.URL.Path[i+1:]]++
		}
		return nil
	}
	count := func(of map[string]int, resource string) int {
		mu.Lock()
		defer mu.Unlock()
		return of[resource]
	}
	// end ends the watch, which by then has brought something, so that it would go on
	// where it was.
	noise := 0
	end := func() {
		t.Helper()
		noise++
		w.patch(cms, "settings", "noise", mergePatch, fmt.Sprintf(`{"metadata":{"annotations":{"noise":"%d"}}}`, noise))
		version := w.get(cms, "settings").GetResourceVersion()
		w.eventually("the watch has told", func() bool { return w.target.cluster.Index.Look(items[0].ID).Live.ResourceVersion == version })
		if faults.EndWatches(kube.Match{Resource: "configmaps"}) == 0 {
			t.Fatal("there was no watch")
		}
	}
	expire := faults.Expire(kube.Match{Verb: "watch", Resource: "configmaps"})
	w.allow.Store(&note)
	const times = 3
	for i := range times {
		end()
		ended := time.Now()
		w.eventually("the kind is listed again", func() bool {
			return count(lists, "configmaps") > i && slices.ContainsFunc(w.target.Report().Watches, func(r reconciler.TargetWatch) bool {
				return r.Of == "metadata" && r.Kind == "configmaps" && r.Heard.After(ended)
			})
		})
	}
	if n, expired := count(lists, "configmaps"), count(watches, "configmaps"); n != times || expired != times {
		t.Errorf("%d lists for %d watches that expired, of %d that ended", n, expired, times)
	}
	for _, resource := range []string{"deployments", "services", "secrets"} {
		if n := count(lists, resource) + count(watches, resource); n != 0 {
			t.Errorf("%s, whose watch goes on, were asked for %d times", resource, n)
		}
	}
	version := w.get(cms, "settings").GetResourceVersion()
	if got := w.run(items); got.kinds() != "unchanged 4" || w.get(cms, "settings").GetResourceVersion() != version {
		t.Errorf("an expiry is drift: %s; %s", got.kinds(), got.errors())
	}
	if _, problems := w.target.Health(w.name); len(problems) != 0 {
		t.Errorf("what is listed is not unseen: %v", problems)
	}
	w.patch(deploys, "web", "hand", mergePatch, `{"spec":{"replicas":7}}`)
	if out := w.correct(items, "web"); out.Err != nil || len(out.Changes) != 1 {
		t.Errorf("of another kind meanwhile: error %v, changes %+v", out.Err, out.Changes)
	}
	end()
	if err := w.objects.Resource(cms).Namespace(w.namespace).Delete(context.Background(), "settings", deleteNow); err != nil {
		t.Fatal(err)
	}
	if out := w.correct(items, "settings"); out.Err != nil || w.value(cms, "settings", "data", "color") != "blue" {
		t.Errorf("deleted while no watch told: error %v", out.Err)
	}
	expire.Remove()
	w.patch(cms, "settings", "hand", mergePatch, `{"data":{"color":"red"}}`)
	if out := w.correct(items, "settings"); out.Err != nil || len(out.Changes) != 1 || out.Changes[0].Manager != "hand" {
		t.Errorf("afterwards: error %v, changes %+v", out.Err, out.Changes)
	}
	w.eventually("it is clean", func() bool { return w.run(items).kinds() == "unchanged 4" })
}
