package manifest

import (
	"fmt"
	"testing"

	"github.com/holdfast-gitops/holdfast/sources"
)

// What was not asked for the longest time goes first, never what has just come, and
// what is kept stays within the limit.
func TestCacheForgetsWhatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	key := func(i int) cacheKey { return cacheKey{content: fmt.Sprint(i), path: "a"} }
	items := []sources.Item{{Body: make([]byte, 1000)}}
	one := 2*itemOverhead + 1000 + 1
	c := NewCache(10 * one)
	for i := range 10 {
		c.put(key(i), items)
	}
	for i := range 10 {
		if _, ok := c.get(key(i)); !ok {
			t.Fatalf("%d is forgotten though all fit", i)
		}
	}
	c.get(key(0))
	c.put(key(10), items)
	for i, want := range map[int]bool{0: true, 1: false, 2: false, 3: true, 9: true, 10: true} {
		if _, ok := c.get(key(i)); ok != want {
			t.Errorf("%d is kept: %v, want %v", i, ok, want)
		}
	}
	if c.size > c.limit || c.size != len(c.entries)*one {
		t.Errorf("%d bytes of %d, %d entries", c.size, c.limit, len(c.entries))
	}
	c.put(key(11), []sources.Item{{Body: make([]byte, 20*one)}})
	if _, ok := c.get(key(11)); ok {
		t.Error("what is larger than the limit is kept")
	}
	if _, ok := c.get(key(10)); !ok {
		t.Error("what is larger than the limit drove out others")
	}
}
