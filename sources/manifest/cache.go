package manifest

import (
	"container/list"
	"sync"

	"github.com/holdfast-gitops/holdfast/sources"
)

// itemOverhead is what an item costs beside its body, about.
const itemOverhead = 400

// Cache remembers the items of files that had no problems, by content and path,
// so that one commit parses only the files it changed. The path is part of the
// key because items carry their origin. It is safe for concurrent use.
type Cache struct {
	limit int

	mu      sync.Mutex
	size    int
	order   *list.List
	entries map[cacheKey]*list.Element
}

type cacheKey struct {
	content, path string
	dialect       Dialect
	references    bool
}

type cacheEntry struct {
	key   cacheKey
	items []sources.Item
	size  int
}

// NewCache makes a cache that holds about so many bytes.
func NewCache(limit int) *Cache {
	return &Cache{limit: limit, order: list.New(), entries: map[cacheKey]*list.Element{}}
}

func (c *Cache) get(key cacheKey) ([]sources.Item, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cacheEntry).items, true
}

func (c *Cache) put(key cacheKey, items []sources.Item) {
	if c == nil {
		return
	}
	size := itemOverhead + len(key.path)
	for _, i := range items {
		size += itemOverhead + len(i.Body)
	}
	if size > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.entries[key]; there {
		return
	}
	c.entries[key] = c.order.PushFront(&cacheEntry{key, items, size})
	c.size += size
	for c.size > c.limit {
		last := c.order.Back()
		old := c.order.Remove(last).(*cacheEntry)
		delete(c.entries, old.key)
		c.size -= old.size
	}
}
