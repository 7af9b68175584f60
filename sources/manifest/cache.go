package manifest

import (
	"cmp"
	"maps"
	"slices"
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
	clock   uint64
	entries map[cacheKey]*cacheEntry
}

type cacheKey struct {
	content, path string
	dialect       Dialect
	references    bool
}

type cacheEntry struct {
	items []sources.Item
	size  int
	// used is the cache's clock when it was last asked for.
	used uint64
}

// NewCache makes a cache that holds about so many bytes.
func NewCache(limit int) *Cache {
	return &Cache{limit: limit, entries: map[cacheKey]*cacheEntry{}}
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
	c.clock++
	e.used = c.clock
	return e.items, true
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
	c.clock++
	c.entries[key] = &cacheEntry{items, size, c.clock}
	c.size += size
	if c.size > c.limit {
		c.evict()
	}
}

// evict drops what was not asked for the longest time, a tenth more than it has to: it
// looks at all, and is not to do so for each. The newest stays. It needs c.mu.
func (c *Cache) evict() {
	keys := slices.SortedFunc(maps.Keys(c.entries), func(a, b cacheKey) int { return cmp.Compare(c.entries[a].used, c.entries[b].used) })
	for _, key := range keys[:len(keys)-1] {
		if c.size <= c.limit-c.limit/10 {
			return
		}
		c.size -= c.entries[key].size
		delete(c.entries, key)
	}
}
