package kubelive

import "github.com/holdfast-gitops/holdfast/sources"

// unsavedCount is how many baselines changed since the last save.
func (x *Index) unsavedCount() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.unsaved)
}

// takeUnsaved copies what changed since it or takeAll was last called.
func (x *Index) takeUnsaved() []baselineRecord {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]baselineRecord, 0, len(x.unsaved))
	for id := range x.unsaved {
		r := baselineRecord{ID: id}
		if e := x.entries[id]; e != nil && e.base != nil {
			r.Baseline = *e.base
		}
		out = append(out, r)
	}
	x.unsaved = map[sources.ID]struct{}{}
	return out
}

// takeAll copies all that is to be saved.
func (x *Index) takeAll() []baselineRecord {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]baselineRecord, 0, len(x.entries))
	for id, e := range x.entries {
		if e.base != nil {
			out = append(out, baselineRecord{id, *e.base})
		}
	}
	x.unsaved = map[sources.ID]struct{}{}
	return out
}
