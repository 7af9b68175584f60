package ledger

import (
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The bounds of the queue. Runs are what takes memory, so they are bounded by
// their bytes as well.
const (
	maxQueuedRuns     = 1000
	maxQueuedBytes    = 32 << 20
	maxQueuedEpisodes = 10_000
	maxQueuedActions  = 10_000
	maxQueuedFacts    = 10_000
)

// patience is how long the end of a run waits for room, while the writer is well.
const patience = 2 * time.Second

// queue is what waits to be written. Episodes wait by their id, the newest state
// of each, so that a drift that is corrected at once is one write.
type queue struct {
	// wake holds a token when there is something to write.
	wake chan struct{}

	mu       sync.Mutex
	runs     []*runRow
	bytes    int
	actions  []Action
	facts    []fact
	episodes map[string]*episodeRow
	// order is that of the episodes' first sighting.
	order []string
	// byObject is the newest waiting episode of a thing.
	byObject map[objectKey]string
	// last is, by environment, when the run that was recorded last began: one run
	// can answer two triggers.
	last map[string]time.Time
	// room is closed when the writer took something.
	room    chan struct{}
	failing bool
	// gap is what was lost since the last write.
	gap                    gap
	lostRuns, lostEpisodes int64
}

type objectKey struct {
	environment string
	object      sources.ID
}

// episodeRow is an episode as it is written; detect is 0 where it is not new.
type episodeRow struct {
	drift.Episode
	detect time.Duration
}

// gap is what the history lacks.
type gap struct {
	since, until   time.Time
	runs, episodes int
}

// batch is what is written in one transaction.
type batch struct {
	runs     []*runRow
	actions  []Action
	facts    []fact
	episodes []*episodeRow
	gap      gap
}

func (b batch) empty() bool {
	return len(b.runs)+len(b.actions)+len(b.facts)+len(b.episodes) == 0 && b.gap == gap{}
}

func newQueue() *queue {
	return &queue{
		wake: make(chan struct{}, 1), episodes: map[string]*episodeRow{}, byObject: map[objectKey]string{},
		last: map[string]time.Time{}, room: make(chan struct{}),
	}
}

// addRun waits for room, if there is none and the writer is at work.
func (q *queue) addRun(row *runRow, environment string, started time.Time) {
	q.mu.Lock()
	if q.last[environment].Equal(started) {
		q.mu.Unlock()
		return
	}
	q.last[environment] = started
	full := func() bool {
		return len(q.runs) >= maxQueuedRuns || q.bytes+row.size() > maxQueuedBytes && len(q.runs) > 0
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for waiting := true; waiting && full() && !q.failing; {
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-deadline.C:
			waiting = false
		}
		q.mu.Lock()
	}
	defer q.mu.Unlock()
	if full() {
		q.lose(1, 0, row.finished)
		return
	}
	q.runs = append(q.runs, row)
	q.bytes += row.size()
	q.signal()
}

// addEpisode never waits. When there is no room, the episode continues the
// waiting one of the same thing; if there is none, it is lost, and counted.
func (q *queue) addEpisode(e drift.Episode, detect time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := objectKey{e.Environment, e.Object}
	if row := q.episodes[e.ID]; row != nil {
		row.Episode = e
		row.detect = max(row.detect, detect)
		q.signal()
		return
	}
	if len(q.order) >= maxQueuedEpisodes {
		row := q.episodes[q.byObject[key]]
		if row == nil {
			q.lose(0, 1, e.LastSeen)
			return
		}
		id, first, times := row.ID, row.FirstSeen, row.Occurrences
		if detect > 0 { // a new drift, not the end of one
			times++
		}
		row.Episode = e
		row.ID, row.FirstSeen, row.Occurrences = id, first, times
		return
	}
	q.episodes[e.ID] = &episodeRow{Episode: e, detect: detect}
	q.order = append(q.order, e.ID)
	q.byObject[key] = e.ID
	q.signal()
}

// addAction reports whether there was room.
func (q *queue) addAction(a Action) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.actions) >= maxQueuedActions {
		return false
	}
	q.actions = append(q.actions, a)
	q.signal()
	return true
}

// addFact reports whether there was room.
func (q *queue) addFact(f fact) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.facts) >= maxQueuedFacts {
		return false
	}
	q.facts = append(q.facts, f)
	q.signal()
	return true
}

// lose needs q.mu.
func (q *queue) lose(runs, episodes int, at time.Time) {
	if q.gap.since.IsZero() {
		q.gap.since = at
	}
	q.gap.until = at
	q.gap.runs += runs
	q.gap.episodes += episodes
	q.lostRuns += int64(runs)
	q.lostEpisodes += int64(episodes)
	q.signal()
}

// signal needs q.mu.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// rouse lets the writer look, though there may be nothing to write.
func (q *queue) rouse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.signal()
}

// peek is the oldest of what waits; it goes on waiting until done is told. Only
// the writer peeks, and what comes meanwhile comes after.
func (q *queue) peek() batch {
	const atOnce = 500
	q.mu.Lock()
	defer q.mu.Unlock()
	b := batch{
		runs:    append([]*runRow(nil), q.runs[:min(len(q.runs), atOnce)]...),
		actions: append([]Action(nil), q.actions[:min(len(q.actions), atOnce)]...),
		facts:   append([]fact(nil), q.facts[:min(len(q.facts), atOnce)]...),
		gap:     q.gap,
	}
	for _, id := range q.order[:min(len(q.order), atOnce)] {
		row := *q.episodes[id]
		b.episodes = append(b.episodes, &row)
	}
	return b
}

// done forgets what was written. An episode that moved on since stays.
func (q *queue) done(b batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range b.runs {
		q.bytes -= r.size()
	}
	q.runs = append([]*runRow(nil), q.runs[len(b.runs):]...)
	q.actions = append([]Action(nil), q.actions[len(b.actions):]...)
	q.facts = append([]fact(nil), q.facts[len(b.facts):]...)
	q.forget(b.episodes)
	if q.gap == b.gap {
		q.gap = gap{}
	} else {
		q.gap.runs -= b.gap.runs
		q.gap.episodes -= b.gap.episodes
	}
	close(q.room)
	q.room = make(chan struct{})
}

// forget needs q.mu.
func (q *queue) forget(written []*episodeRow) {
	order := append([]string(nil), q.order[len(written):]...)
	for _, w := range written {
		now := q.episodes[w.ID]
		if now.State != w.State || now.Occurrences != w.Occurrences || !now.LastSeen.Equal(w.LastSeen) {
			now.detect = 0 // it was written with the first state
			order = append(order, w.ID)
			continue
		}
		delete(q.episodes, w.ID)
		key := objectKey{w.Environment, w.Object}
		if q.byObject[key] == w.ID {
			delete(q.byObject, key)
		}
	}
	q.order = order
}

// setFailing says whether writes fail: then nothing waits for them.
func (q *queue) setFailing(failing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.failing = failing
	if failing {
		close(q.room)
		q.room = make(chan struct{})
	}
}

func (q *queue) stats(s *Stats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.QueuedRuns, s.QueuedEpisodes = len(q.runs), len(q.order)
	s.LostRuns, s.LostEpisodes = q.lostRuns, q.lostEpisodes
}
