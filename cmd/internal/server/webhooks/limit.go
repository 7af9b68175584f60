package webhooks

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// perSecond and burst bound the calls of one client.
	perSecond = 10
	burst     = 60
	// maxClients bounds how many are remembered; of more, the one that has been
	// silent for longest begins anew.
	maxClients = 1000
	// maxSeen bounds how many deliveries are remembered, keepSeen for how long.
	maxSeen  = 10_000
	keepSeen = 24 * time.Hour
)

// recent is a bounded map that forgets what was used least recently. It needs a
// lock around it.
type recent[V any] struct {
	max   int
	by    map[string]*list.Element
	order *list.List
}

type entry[V any] struct {
	key   string
	value V
}

func newRecent[V any](limit int) *recent[V] {
	return &recent[V]{max: limit, by: map[string]*list.Element{}, order: list.New()}
}

func (r *recent[V]) get(key string) (V, bool) {
	e, ok := r.by[key]
	if !ok {
		var none V
		return none, false
	}
	r.order.MoveToFront(e)
	return e.Value.(entry[V]).value, true
}

func (r *recent[V]) put(key string, value V) {
	if e, ok := r.by[key]; ok {
		e.Value = entry[V]{key, value}
		r.order.MoveToFront(e)
		return
	}
	r.by[key] = r.order.PushFront(entry[V]{key, value})
	for len(r.by) > r.max {
		last := r.order.Back()
		delete(r.by, last.Value.(entry[V]).key)
		r.order.Remove(last)
	}
}

// clients limits the calls of each address.
type clients struct {
	mu  sync.Mutex
	all *recent[*rate.Limiter]
}

func newClients() *clients { return &clients{all: newRecent[*rate.Limiter](maxClients)} }

func (c *clients) allow(remote string, now time.Time) bool {
	key := remote
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		addr := ap.Addr().Unmap()
		key = addr.String()
		if addr.Is6() { // one client has a whole network of them
			if p, err := addr.Prefix(64); err == nil {
				key = p.String()
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.all.get(key)
	if !ok {
		l = rate.NewLimiter(perSecond, burst)
		c.all.put(key, l)
	}
	return l.AllowN(now, 1)
}

// memory knows the deliveries that were taken.
type memory struct {
	mu  sync.Mutex
	all *recent[time.Time]
}

func newMemory() *memory { return &memory{all: newRecent[time.Time](maxSeen)} }

// add remembers a delivery, and reports whether it is the first of all its keys.
func (m *memory) add(receiver string, now time.Time, keys ...string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if at, ok := m.all.get(receiver + "\x00" + k); ok && now.Sub(at) < keepSeen {
			return false
		}
	}
	for _, k := range keys {
		m.all.put(receiver+"\x00"+k, now)
	}
	return true
}
