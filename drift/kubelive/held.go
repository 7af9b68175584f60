package kubelive

import "github.com/holdfast-gitops/holdfast/sources"

// Held are those of an environment's objects that an annotation asks to be left
// alone, with the time until when, in Unix seconds. They are few: it is asked with
// each correction.
func (x *Index) Held(environment string) map[sources.ID]int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out map[sources.ID]int64
	for id, e := range x.held {
		if e.environment != environment {
			continue
		}
		if out == nil {
			out = map[sources.ID]int64{}
		}
		out[id] = e.live.HeldUntil
	}
	return out
}

// noteHeld keeps who is held up to date. It needs x.mu.
func (x *Index) noteHeld(id sources.ID, e *entry) {
	if e.live != nil && e.live.HeldUntil != 0 {
		x.held[id] = e
	} else if len(x.held) > 0 {
		delete(x.held, id)
	}
}
