package render

import (
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
)

// cache remembers the results of renders, the latest used longest.
type cache struct {
	limit int

	mu      sync.Mutex
	size    int
	order   *list.List
	entries map[cacheKey]*list.Element
}

// cacheKey is the path of a request and a digest of all else that it says but
// the tree and the scopes.
type cacheKey struct {
	path string
	asks [sha256.Size]byte
}

type cacheEntry struct {
	key     cacheKey
	result  Result
	answers map[groupKind]scope
	// capabilities are those that a chart saw; nil when none was asked for.
	capabilities *Capabilities
	// root is the content id of the last tree in which the inputs held, which
	// saves looking at them when nothing at all changed.
	root string
	size int
}

func newCache(limit int) *cache {
	return &cache{limit: limit, order: list.New(), entries: map[cacheKey]*list.Element{}}
}

func keyOf(req Request) cacheKey {
	keys := "none"
	if req.Decrypter != nil {
		keys = req.Decrypter.ID()
	}
	asks, err := json.Marshal([]any{
		req.Kind, req.DefaultNamespace, req.CreateNamespace, req.Labels, req.Annotations,
		req.Images, req.Replicas, req.Patches, req.Release, req.Helm, req.Values, keys,
	})
	if err != nil {
		// Values come from YAML and are encodable; should one not be, no two
		// requests with it may be taken for the same.
		asks = []byte(rand.Text())
	}
	return cacheKey{req.Path, sha256.Sum256(asks)}
}

// get answers a request from an earlier one if nothing that it depended on has
// changed. Without an answer the result's Cached is false.
func (c *cache) get(ctx context.Context, req Request) (Result, error) {
	c.mu.Lock()
	e, ok := c.entries[keyOf(req)]
	if !ok {
		c.mu.Unlock()
		return Result{}, nil
	}
	c.order.MoveToFront(e)
	entry := e.Value.(*cacheEntry)
	result, answers, root := entry.result, entry.answers, entry.root
	c.mu.Unlock()

	for gk, was := range answers {
		namespaced, known := req.Scopes.Namespaced(gk.group, gk.kind)
		if (scope{namespaced, known}) != was {
			return Result{}, nil
		}
	}
	if entry.capabilities != nil && req.Capabilities != nil {
		// A cluster that does not answer has not changed as far as anybody knows.
		if now, err := req.Capabilities(ctx); err == nil && !reflect.DeepEqual(now, *entry.capabilities) {
			return Result{}, nil
		}
	}
	now, err := req.Tree.ContentID(".")
	if err != nil {
		return Result{}, fmt.Errorf("identify the snapshot: %w", err)
	}
	if now != root {
		if same, err := result.Inputs.Hold(req.Tree); err != nil || !same {
			return Result{}, err
		}
		c.mu.Lock()
		entry.root = now
		c.mu.Unlock()
	}
	result.Cached = true
	return result, nil
}

func (c *cache) put(req Request, result Result, answers map[groupKind]scope, seen *Capabilities) {
	root, err := req.Tree.ContentID(".")
	if err != nil {
		// Without the id the inputs are looked at, which is only slower.
		root = ""
	}
	key := keyOf(req)
	entry := &cacheEntry{key: key, result: result, answers: answers, capabilities: seen, root: root, size: sizeOf(result)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, there := c.entries[key]; there {
		c.drop(old)
	}
	if entry.size > c.limit {
		return
	}
	c.entries[key] = c.order.PushFront(entry)
	c.size += entry.size
	for c.size > c.limit {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	entry := c.order.Remove(e).(*cacheEntry)
	delete(c.entries, entry.key)
	c.size -= entry.size
}

func sizeOf(r Result) int {
	const item, input = 400, 150
	size := item + len(r.Inputs)*input
	for _, i := range r.Items {
		size += item + len(i.Body)
	}
	return size
}
