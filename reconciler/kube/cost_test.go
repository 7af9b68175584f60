package kube

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
)

// With a status watch on a fifth of the objects, what a target keeps of each is
// small, and a run in which nothing changed still sends nothing.
func TestManyObjectsCostLittle(t *testing.T) {
	count := 100
	if os.Getenv("HOLDFAST_LONG") != "" {
		count = 2000
	}
	w := newWorld(t)
	var text strings.Builder
	for i := range count {
		if i%5 == 0 {
			fmt.Fprintf(&text, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web-%d, namespace: NS}\nspec: {replicas: 0, selector: {matchLabels: {a: web-%d}}, template: {metadata: {labels: {a: web-%d}}, spec: {containers: [{name: c, image: i}]}}}\n", i, i, i)
			continue
		}
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm-%d, namespace: NS}\ndata: {n: \"%d\"}\n", i, i)
	}
	items := w.items(text.String())
	text.Reset()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	w.run(items)
	w.eventually("ready", func() bool { ok, _ := w.target.Ready(w.name); return ok })
	unchanged := fmt.Sprintf("unchanged %d", count)
	w.eventually("quiet", func() bool { return w.run(items).kinds() == unchanged })
	sent := w.sent.Load()
	look := guard(func(r *http.Request) error {
		if r.URL.Query().Get("watch") == "" {
			t.Logf("a request: %s %s", r.Method, r.URL)
		}
		return nil
	})
	w.allow.Store(&look)
	if got := w.run(items); got.kinds() != unchanged || w.sent.Load() != sent {
		t.Errorf("%s, with %d requests", got.kinds(), w.sent.Load()-sent)
	}
	after := heap()
	perObject := (int64(after) - int64(before)) / int64(count)
	t.Logf("%d objects: %d bytes of heap for each", count, perObject)
	if count >= 2000 && perObject > 3000 {
		t.Errorf("%d bytes for each object", perObject)
	}
	runtime.KeepAlive(items)
}
