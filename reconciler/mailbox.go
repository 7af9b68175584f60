package reconciler

import (
	"context"
	"slices"
	"sync"

	"github.com/holdfast-gitops/holdfast/sources"
)

// handle is a run that somebody may wait for.
type handle struct {
	run  Run
	done chan struct{}
}

// mailbox collects what a worker is asked for. Triggers coalesce: however many
// arrive before or during a run, they cause exactly one more.
type mailbox struct {
	// runs guards the runs that handles hold, which others read.
	runs  sync.Locker
	mu    sync.Mutex
	queue *handle
	hints map[sources.ID]Hint
	// questions are answered between runs, until the box is closed.
	questions []func(context.Context)
	closed    bool
	// landings are what flights found, to be taken in by the worker.
	landings []func()
	// look is set when the health is to be looked at again.
	look bool
	// wake holds one token when there is something to do.
	wake chan struct{}
}

func newMailbox(runs sync.Locker) *mailbox {
	return &mailbox{runs: runs, hints: map[sources.ID]Hint{}, wake: make(chan struct{}, 1)}
}

// post asks for a run and returns the handle of the run that will answer. Fresh
// makes the handle if no run is queued yet.
func (m *mailbox) post(t Trigger, fresh func(Trigger) *handle) *handle {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.queue == nil {
		m.queue = fresh(t)
	} else {
		m.runs.Lock()
		m.queue.run.Trigger = merge(m.queue.run.Trigger, t)
		m.runs.Unlock()
	}
	m.signal()
	return m.queue
}

// merge keeps the more urgent reason and all that was asked for.
func merge(a, b Trigger) Trigger {
	out := a
	if b.Reason < a.Reason {
		out.Reason, out.Actor = b.Reason, b.Actor
	}
	if out.Origin == nil || b.Origin != nil && out.Origin.Parent == "" && b.Origin.Parent != "" {
		out.Origin = b.Origin
	}
	out.Verify = a.Verify || b.Verify
	out.Fetch = a.Fetch || b.Fetch
	if b.Approve != "" {
		out.Approve = b.Approve
	}
	if len(b.Through) > 0 {
		out.Through, out.Because = slices.Concat(a.Through, b.Through), b.Because
	}
	if len(b.Revert) > 0 {
		out.Revert = slices.Concat(a.Revert, b.Revert)
	}
	return out
}

// hint asks for a look at one thing.
func (m *mailbox) hint(h Hint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.hints[h.Object]; !known {
		m.hints[h.Object] = h
	}
	m.signal()
}

// maxQuestions bounds how many wait.
const maxQuestions = 64

// ask queues a question, and reports whether it will be answered.
func (m *mailbox) ask(question func(context.Context)) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.questions) == maxQuestions {
		return false
	}
	m.questions = append(m.questions, question)
	m.signal()
	return true
}

// takeQuestions takes all; closing lets no more in.
func (m *mailbox) takeQuestions(closing bool) []func(context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.questions
	m.questions, m.closed = nil, m.closed || closing
	return out
}

func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// poke asks for a look at the environment's health.
func (m *mailbox) poke() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look = true
	m.signal()
}

// poked reports whether that was asked for, once.
func (m *mailbox) poked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	look := m.look
	m.look = false
	return look
}

// land leaves what a flight found. It never waits: who calls may hold what the worker
// waits for.
func (m *mailbox) land(landing func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.landings = append(m.landings, landing)
	m.signal()
}

func (m *mailbox) takeLandings() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.landings
	m.landings = nil
	return out
}

// takeHints takes all that was hinted at.
func (m *mailbox) takeHints() map[sources.ID]Hint {
	m.mu.Lock()
	defer m.mu.Unlock()
	hints := m.hints
	m.hints = map[sources.ID]Hint{}
	return hints
}

// takeRun takes a queued run, if one is queued.
func (m *mailbox) takeRun() *handle { return m.takeIf(func(Trigger) bool { return true }) }

// takePoll takes a queued run that asks for nothing but what is assigned by now.
func (m *mailbox) takePoll() *handle {
	return m.takeIf(func(t Trigger) bool {
		return !t.Fetch && !t.Verify && t.Approve == "" && len(t.Through)+len(t.Revert) == 0
	})
}

func (m *mailbox) takeIf(match func(Trigger) bool) *handle {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.queue
	if h == nil || !match(h.run.Trigger) {
		return nil
	}
	m.queue = nil
	return h
}

// queued is a copy of the run that waits, if any.
func (m *mailbox) queued() *Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.queue == nil {
		return nil
	}
	run := m.queue.run
	return &run
}
