package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

// digest is that of a set of items, which are sorted.
func digest(items []sources.Item) string {
	h := sha256.New()
	for _, i := range items {
		fmt.Fprintf(h, "%s %s %s\n", i.APIVersion(), i.ID, i.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// substituted are the items with parameters put in. One that changed is checked
// again as if it had been written so.
func (r *Renderer) substituted(items []sources.Item, values substitute.Values) ([]sources.Item, error) {
	if values == nil {
		return items, nil
	}
	var problems sources.Problems
	out := make([]sources.Item, 0, len(items))
	for _, item := range items {
		next, faults := substitute.Item(item, values)
		if len(faults) > 0 {
			problems = append(problems, faults...)
			continue
		}
		if next.Digest == item.Digest {
			out = append(out, item)
			continue
		}
		checked, faults := manifest.Object(item.Origin, next.Body, r.o.Manifest)
		problems = append(problems, faults...)
		for _, c := range checked {
			c.Sensitive = c.Sensitive || item.Sensitive
			out = append(out, c)
		}
	}
	manifest.SortProblems(problems)
	return out, problems.Err()
}
