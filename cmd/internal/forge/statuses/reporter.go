package statuses

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-gitops/holdfast/cmd/internal/outbox"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// FileName is the file in the data directory that holds what was told and what
// waits.
const FileName = "statuses.json"

const (
	// lookEvery is how often things are looked at without a sign.
	lookEvery = 5 * time.Second
	// maxWaiting bounds the messages that wait for one environment: beyond it the
	// oldest are given up.
	maxWaiting = 8
	// maxDeployments bounds the deployments that are remembered of one environment.
	maxDeployments = 4
)

// Options are what a reporter needs. DataDir, Environments and Targets are
// required.
type Options struct {
	DataDir      string
	Environments func() []reconciler.Status
	// Targets are where to tell, by source. A source without one is not told of.
	Targets func() map[string]Target
	// Settled reports whether every source was looked at, so that an environment
	// that is not there has gone.
	Settled func() bool
	// Link is the dashboard's address; empty for none.
	Link string
	// Count is told of each attempt, and how it ended.
	Count  func(source, outcome string)
	Logger zerolog.Logger
	// Every, Backoff and Now are for tests; zero has a default.
	Every   time.Duration
	Backoff func(attempt int) time.Duration
	Now     func() time.Time
}

// record is what is kept of one environment.
type record struct {
	Source string `json:"source"`
	// Last is what was last decided to be told; it waits or was told.
	Last Verdict `json:"last"`
	// Waiting are what the host has not taken yet, oldest first.
	Waiting []message `json:"waiting,omitempty"`
	// Deployments are the host's ids by commit, of the newest commits.
	Deployments map[string]string `json:"deployments,omitempty"`
	Order       []string          `json:"order,omitempty"`
}

// Reporter tells hosts what becomes of commits. Create it with Open, then Run it.
// It implements reconciler.Observer and reconciler.Watcher.
type Reporter struct {
	opts Options
	wake chan struct{}

	mu sync.Mutex
	// state is by environment, busy are the sources of which messages are being
	// sent, and notBefore is when they are tried next.
	state     map[string]*record
	busy      map[string]bool
	notBefore map[string]time.Time
	saved     string
}

// Open reads what was told before. A file that cannot be read is put aside: what
// stands now is then told once more, which hosts take for the same.
func Open(o Options) *Reporter {
	if o.Every == 0 {
		o.Every = lookEvery
	}
	if o.Backoff == nil {
		o.Backoff = outbox.Backoff
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Count == nil {
		o.Count = func(string, string) {}
	}
	if o.Settled == nil {
		o.Settled = func() bool { return false }
	}
	r := &Reporter{opts: o, wake: make(chan struct{}, 1), state: map[string]*record{}, busy: map[string]bool{}, notBefore: map[string]time.Time{}}
	data, err := os.ReadFile(r.path())
	if err == nil {
		err = json.Unmarshal(data, &r.state)
		r.saved = string(data)
	}
	maps.DeleteFunc(r.state, func(_ string, rec *record) bool { return rec == nil })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.Logger.Error().Err(err).Str("file", r.path()).Msg("what was told of commits before cannot be read; it is put aside")
		r.state = map[string]*record{}
		if err := os.Rename(r.path(), r.path()+".broken"); err != nil {
			o.Logger.Error().Err(err).Msg("it cannot be put aside, either")
		}
	}
	if r.state == nil {
		r.state = map[string]*record{}
	}
	return r
}

func (r *Reporter) path() string { return filepath.Join(r.opts.DataDir, FileName) }

// save writes the state if it has changed. It needs mu.
func (r *Reporter) save() {
	data, err := json.Marshal(r.state)
	if err == nil && string(data) == r.saved {
		return
	}
	if err == nil {
		err = outbox.ReplaceFile(r.path(), data)
	}
	if err != nil {
		r.opts.Logger.Error().Err(err).Msg("what was told of commits cannot be written; after a restart it is told again")
		return
	}
	r.saved = string(data)
}

// Run looks and tells until ctx ends. What was not told by then is told after the
// next start.
func (r *Reporter) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		tick := time.NewTicker(r.opts.Every)
		defer tick.Stop()
		for {
			targets := r.opts.Targets()
			r.look(targets)
			for source, target := range r.due(targets) {
				group.Go(func() error { r.deliver(ctx, source, target); return nil })
			}
			select {
			case <-ctx.Done():
				r.look(r.opts.Targets()) // what ended just now is not forgotten
				return nil
			case <-tick.C:
			case <-r.wake:
				// Many things change at the same time, and one look is enough for them.
				select {
				case <-ctx.Done():
				case <-time.After(r.opts.Every / 20):
				}
			}
		}
	})
	return group.Wait()
}

// look compares how things stand with what was told.
func (r *Reporter) look(targets map[string]Target) {
	if len(targets) == 0 {
		return
	}
	all := r.opts.Environments()
	settled := r.opts.Settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	known := map[string]bool{}
	for _, s := range all {
		known[s.Name] = true
		if _, ok := targets[s.Source]; ok {
			r.note(s)
		}
	}
	if settled {
		maps.DeleteFunc(r.state, func(name string, rec *record) bool { return !known[name] && len(rec.Waiting) == 0 })
	}
	r.save()
}

// note lets what is new of an environment wait. It needs mu.
func (r *Reporter) note(s reconciler.Status) {
	now := verdict(s)
	rec := r.state[s.Name]
	if rec == nil || rec.Source != s.Source {
		rec = &record{Source: s.Source}
	}
	if !news(rec.Last, now) {
		return
	}
	r.state[s.Name] = rec
	if rec.Last.State == Pending && rec.Last.Commit != now.Commit {
		// Nobody else ever says how the other ended.
		over := rec.Last
		over.State, over.Description = Superseded, "another commit came before it was ready"
		r.enqueue(rec, s.Name, over)
	}
	rec.Last = now
	r.enqueue(rec, s.Name, now)
}

// enqueue adds a message, in the place of one about the same commit that nobody
// has begun to send.
func (r *Reporter) enqueue(rec *record, environment string, v Verdict) {
	m := message{Environment: environment, Verdict: v, Deployment: rec.Deployments[v.Commit]}
	if r.opts.Link != "" {
		m.Link = strings.TrimRight(r.opts.Link, "/") + "/environments/" + url.PathEscape(environment)
	}
	if n := len(rec.Waiting); n > 0 {
		last := rec.Waiting[n-1]
		if last.Commit == v.Commit && last.Attempts == 0 && !last.Tried && !last.Told {
			rec.Waiting = rec.Waiting[:n-1]
			if v.State == Superseded && len(rec.Waiting) == 0 {
				return // the host has never heard of it
			}
		}
	}
	rec.Waiting = append(rec.Waiting, m)
	for len(rec.Waiting) > maxWaiting {
		r.opts.Count(rec.Source, "dropped")
		r.opts.Logger.Error().Str("source", rec.Source).Str("environment", environment).Str("commit", rec.Waiting[1].Commit).Msg("commit status dropped: too many wait")
		rec.Waiting = slices.Delete(rec.Waiting, 1, 2) // the first may be on its way
	}
}

// due are the targets that have messages now and are not busy; they become busy.
func (r *Reporter) due(targets map[string]Target) map[string]Target {
	now := r.opts.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]Target{}
	for _, rec := range r.state {
		t, ok := targets[rec.Source]
		if ok && len(rec.Waiting) > 0 && !r.busy[rec.Source] && !r.notBefore[rec.Source].After(now) {
			out[rec.Source] = t
		}
	}
	for source := range out {
		r.busy[source] = true
	}
	return out
}

// deliver sends what waits for one source, until something fails or nothing is
// left.
func (r *Reporter) deliver(ctx context.Context, source string, t Target) {
	defer func() {
		r.mu.Lock()
		delete(r.busy, source)
		r.mu.Unlock()
		r.sign()
	}()
	for ctx.Err() == nil {
		m, ok := r.next(source)
		if !ok {
			return
		}
		err := attempt(ctx, t, &m)
		if pause := r.settle(source, m, err); pause > 0 {
			r.mu.Lock()
			r.notBefore[source] = r.opts.Now().Add(pause)
			r.mu.Unlock()
			timer := time.AfterFunc(pause, r.sign)
			context.AfterFunc(ctx, func() { timer.Stop() })
			return
		}
	}
}

// next is the first message of a source, by the name of its environment. That it
// is tried is on disk before it is.
func (r *Reporter) next(source string) (message, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(r.state)) {
		rec := r.state[name]
		if rec.Source != source || len(rec.Waiting) == 0 {
			continue
		}
		m := rec.Waiting[0]
		if m.Deployment == "" {
			m.Deployment = rec.Deployments[m.Commit]
		}
		rec.Waiting[0].Tried = true
		r.save()
		return m, true
	}
	return message{}, false
}

func attempt(ctx context.Context, t Target, m *message) error {
	return outbox.Attempt(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 3*sendTimeout)
		defer cancel()
		return t.tell(ctx, m)
	})
}

// settle takes note of how an attempt ended, and says how long to wait for the
// next.
func (r *Reporter) settle(source string, m message, err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.state[m.Environment]
	if rec == nil || rec.Source != source || len(rec.Waiting) == 0 || rec.Waiting[0].Commit != m.Commit || rec.Waiting[0].State != m.State {
		return 0 // the environment is of another source by now
	}
	rec.keep(m)
	log := r.opts.Logger.With().Str("source", source).Str("environment", m.Environment).Str("commit", m.Commit).Str("state", string(m.State)).Logger()
	if err == nil {
		r.opts.Count(source, "sent")
		rec.Waiting = rec.Waiting[1:]
		log.Debug().Msg("commit status told")
		r.save()
		return 0
	}
	m.Attempts++
	m.Tried = true
	var e refusal
	if errors.As(err, &e) && e.final && m.Attempts >= outbox.Refusals {
		r.opts.Count(source, "dropped")
		log.Error().Err(err).Msg("commit status dropped: the repository's host refuses it")
		rec.Waiting = rec.Waiting[1:]
		r.save()
		return 0
	}
	r.opts.Count(source, "failed")
	log.Warn().Err(err).Int("attempt", m.Attempts).Msg("commit status not told; it is tried again")
	rec.Waiting[0] = m
	r.save()
	return max(r.opts.Backoff(m.Attempts), e.after)
}

// keep remembers which deployment a commit has.
func (rec *record) keep(m message) {
	if m.Deployment == "" || rec.Deployments[m.Commit] == m.Deployment {
		return
	}
	if rec.Deployments == nil {
		rec.Deployments = map[string]string{}
	}
	rec.Deployments[m.Commit] = m.Deployment
	rec.Order = append(slices.DeleteFunc(rec.Order, func(id string) bool { return id == m.Commit }), m.Commit)
	for len(rec.Order) > maxDeployments {
		delete(rec.Deployments, rec.Order[0])
		rec.Order = rec.Order[1:]
	}
}

// Waiting is how many messages wait, by source.
func (r *Reporter) Waiting() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int{}
	for _, rec := range r.state {
		out[rec.Source] += len(rec.Waiting)
	}
	return out
}

func (r *Reporter) sign() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// RunBegan implements reconciler.Watcher.
func (r *Reporter) RunBegan(reconciler.Run) { r.sign() }

// StatusChanged implements reconciler.Watcher.
func (r *Reporter) StatusChanged(string) { r.sign() }

// RunEnded implements reconciler.Observer.
func (r *Reporter) RunEnded(reconciler.Run) { r.sign() }

// DriftSeen implements reconciler.Observer.
func (r *Reporter) DriftSeen(drift.Episode, time.Duration) {}

// DriftChanged implements reconciler.Observer.
func (r *Reporter) DriftChanged(drift.Episode) {}

// DriftEnded implements reconciler.Observer.
func (r *Reporter) DriftEnded(drift.Episode) {}
