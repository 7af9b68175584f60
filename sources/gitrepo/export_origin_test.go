package gitrepo

import "time"

// WaitForSharers waits until so many share the listing under way and the next.
func WaitForSharers(r *Repo, n int) {
	for {
		r.origin.mu.Lock()
		have := 0
		for _, f := range []*flight{r.origin.current, r.origin.next} {
			if f != nil {
				have += f.sharers
			}
		}
		r.origin.mu.Unlock()
		if have == n {
			return
		}
		<-time.After(time.Millisecond)
	}
}
