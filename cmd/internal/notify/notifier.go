package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/outbox"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// FileName is the file in the data directory that holds what was told and what
// waits.
const FileName = "notifications.json"

const (
	// lookEvery is how often things are looked at without a sign.
	lookEvery = 5 * time.Second
	// maxWaiting bounds the notices that wait for one receiver, maxEvents the ended
	// drifts that nobody has looked at yet.
	maxWaiting = 2000
	maxEvents  = 5000
	// perMessage bounds the notices of one message.
	perMessage = 500
)

// Options are what a notifier needs. Config, DataDir and Look are required.
type Options struct {
	Config  config.Notifications
	DataDir string
	Look    func() View
	// Count is told of each attempt to send, and how it ended.
	Count  func(receiver, outcome string)
	Logger zerolog.Logger
	// Every, Backoff and Now are for tests; zero has a default.
	Every   time.Duration
	Backoff func(attempt int) time.Duration
	Now     func() time.Time
}

// flight is a message that a receiver has not taken yet.
type flight struct {
	Message
	Attempts int `json:"attempts,omitempty"`
}

// waiting is a notice that waits, at least until a time.
type waiting struct {
	Notice
	NotBefore time.Time `json:"notBefore,omitzero"`
}

// state is what is on disk.
type state struct {
	machine
	// Waiting are notices by receiver and fingerprint, Flights the messages that
	// are being sent.
	Waiting map[string]map[string]waiting `json:"waiting,omitempty"`
	Flights map[string]*flight            `json:"flights,omitempty"`
}

// Notifier tells people. Create it with Open, then Run it. It implements
// reconciler.Observer.
type Notifier struct {
	opts      Options
	timing    timing
	receivers map[string]*receiver
	wake      chan struct{}

	mu    sync.Mutex
	state state
	// saved is what is on disk.
	saved string

	eventsMu sync.Mutex
	events   []drift.Episode
}

// Open reads what was told before. It fails if a template cannot be parsed or a
// certificate cannot be read; a file of before that cannot be read is put aside.
func Open(o Options) (*Notifier, error) {
	o.Every = cmp.Or(o.Every, lookEvery)
	if o.Backoff == nil {
		o.Backoff = outbox.Backoff
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Count == nil {
		o.Count = func(string, string) {}
	}
	zone, err := time.LoadLocation(o.Config.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("notifications: %w", err)
	}
	n := &Notifier{
		opts: o, receivers: map[string]*receiver{}, wake: make(chan struct{}, 1),
		timing: timing{remind: o.Config.Remind, settle: o.Config.Settle, digest: clock(o.Config.Digest), zone: zone},
	}
	var problems []error
	for _, c := range o.Config.Receivers {
		r, err := newReceiver(c, o.Config)
		if err != nil {
			problems = append(problems, fmt.Errorf("notifications: receiver %s: %w", c.Name, err))
			continue
		}
		n.receivers[c.Name] = r
	}
	n.load()
	return n, errors.Join(problems...)
}

func (n *Notifier) path() string { return filepath.Join(n.opts.DataDir, FileName) }

// load reads the file. What cannot be read is put aside: people are told again,
// which is better than not at all.
func (n *Notifier) load() {
	data, err := os.ReadFile(n.path())
	if err == nil {
		err = json.Unmarshal(data, &n.state)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.opts.Logger.Error().Err(err).Str("file", n.path()).Msg("what was told before cannot be read; it is put aside")
		n.state = state{}
		if err := os.Rename(n.path(), n.path()+".broken"); err != nil {
			n.opts.Logger.Error().Err(err).Msg("it cannot be put aside, either")
		}
	}
	n.saved = string(data)
	s := &n.state
	if s.Alerts == nil {
		s.Alerts = map[string]*tracked{}
	}
	if s.Corrected == nil {
		s.Corrected = map[string]int{}
	}
	if s.Waiting == nil {
		s.Waiting = map[string]map[string]waiting{}
	}
	if s.Flights == nil {
		s.Flights = map[string]*flight{}
	}
	for name := range s.Waiting { // whom the configuration does not name any more gets nothing
		if n.receivers[name] == nil {
			delete(s.Waiting, name)
		}
	}
	for name := range s.Flights {
		if n.receivers[name] == nil {
			delete(s.Flights, name)
		}
	}
}

// save writes the state, if it has changed. It needs mu.
func (n *Notifier) save() {
	data, err := json.Marshal(&n.state)
	if err == nil && string(data) == n.saved {
		return
	}
	if err == nil {
		err = outbox.ReplaceFile(n.path(), data)
	}
	if err != nil {
		n.opts.Logger.Error().Err(err).Msg("what was told cannot be written; after a restart it is told again")
		return
	}
	n.saved = string(data)
}

// Run looks and sends until ctx ends. What was not sent by then is sent after the
// next start.
func (n *Notifier) Run(ctx context.Context) error {
	if len(n.receivers) == 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for name, r := range n.receivers {
		group.Go(func() error { n.deliver(ctx, name, r); return nil })
	}
	group.Go(func() error {
		tick := time.NewTicker(n.opts.Every)
		defer tick.Stop()
		for {
			n.look(n.opts.Now())
			select {
			case <-ctx.Done():
			case <-tick.C:
			case <-n.wake:
				// Many runs end at the same time, and one look is enough for them.
				select {
				case <-ctx.Done():
				case <-time.After(n.opts.Every / 10):
				}
			}
			if ctx.Err() != nil {
				n.look(n.opts.Now()) // what ended just now is not forgotten
				return nil
			}
		}
	})
	return group.Wait()
}

// look compares how things stand with what was told.
func (n *Notifier) look(now time.Time) {
	v := n.opts.Look()
	labels := map[string]map[string]string{}
	for _, s := range v.Environments {
		labels[s.Name] = s.Labels
	}
	n.eventsMu.Lock()
	events := n.events
	n.events = nil
	n.eventsMu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Notice
	for _, e := range events {
		if told := n.state.ended(now, e, labels[e.Environment]); told != nil {
			all = append(all, *told)
		}
	}
	for _, notice := range append(all, n.state.step(now, v, n.timing)...) {
		n.enqueue(notice)
	}
	n.save()
	for _, r := range n.receivers {
		r.nudge()
	}
}

// enqueue lets a notice wait for its receivers. It needs mu.
func (n *Notifier) enqueue(notice Notice) {
	notBefore := notice.At.Add(n.opts.Config.Group)
	if end := quietUntil(n.opts.Config.Quiet, n.timing.zone, notice.Severity, notice.At); end.After(notBefore) {
		notBefore = end
	}
	for _, name := range receiversOf(n.opts.Config, notice.Alert) {
		if r := n.receivers[name]; r == nil || !r.takes(notice) {
			continue
		}
		all := n.state.Waiting[name]
		if all == nil {
			all = map[string]waiting{}
			n.state.Waiting[name] = all
		}
		w := waiting{notice, notBefore}
		if before, ok := all[notice.Fingerprint]; ok {
			w.NotBefore = before.NotBefore
			if before.Phase == New && notice.Phase != Resolved {
				w.Phase = New // nobody has heard of it yet
			}
		}
		all[notice.Fingerprint] = w
		if len(all) > maxWaiting {
			n.drop(name, all)
		}
	}
}

// drop forgets the oldest notice of those that are least bad.
func (n *Notifier) drop(name string, all map[string]waiting) {
	least := slices.MinFunc(slices.Collect(maps.Values(all)), func(a, b waiting) int {
		if a.Severity != b.Severity && drift.Worst(a.Severity, b.Severity) == b.Severity {
			return -1
		} else if a.Severity != b.Severity {
			return 1
		}
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Fingerprint, b.Fingerprint))
	})
	delete(all, least.Fingerprint)
	n.opts.Count(name, "dropped")
	n.opts.Logger.Error().Str("receiver", name).Str("alert", least.Fingerprint).Msg("notification dropped: too many wait")
}

// next is the message to send to a receiver now, and else how long to wait for
// one; zero is until a sign.
func (n *Notifier) next(name string, r *receiver, now time.Time) (flight, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.state.Flights[name]; f != nil {
		return *f, 0
	}
	var due []Notice
	var soonest time.Duration
	for _, w := range n.state.Waiting[name] {
		if wait := w.NotBefore.Sub(now); wait <= 0 {
			due = append(due, w.Notice)
		} else if soonest == 0 || wait < soonest {
			soonest = wait
		}
	}
	if len(due) == 0 {
		return flight{}, soonest
	}
	slices.SortFunc(due, func(a, b Notice) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Fingerprint, b.Fingerprint))
	})
	due = due[:min(len(due), r.perMessage)]
	for _, d := range due {
		delete(n.state.Waiting[name], d.Fingerprint)
	}
	f := &flight{Message: Message{ID: "msg-" + strings.ToLower(rand.Text()[:12]), At: now, Notices: due, Link: n.opts.Config.Link}}
	n.state.Flights[name] = f
	n.save()
	return *f, 0
}

// RunEnded implements reconciler.Observer.
func (n *Notifier) RunEnded(reconciler.Run) { n.sign() }

// DriftSeen implements reconciler.Observer.
func (n *Notifier) DriftSeen(drift.Episode, time.Duration) {}

// DriftChanged implements reconciler.Observer.
func (n *Notifier) DriftChanged(drift.Episode) {}

// DriftEnded implements reconciler.Observer.
func (n *Notifier) DriftEnded(e drift.Episode) {
	if len(n.receivers) == 0 {
		return // nobody would ever take it
	}
	n.eventsMu.Lock()
	full := len(n.events) >= maxEvents
	if !full {
		n.events = append(n.events, e)
	}
	n.eventsMu.Unlock()
	if full {
		n.opts.Count("", "dropped")
	}
}

func (n *Notifier) sign() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Waiting is how many notices wait for each receiver.
func (n *Notifier) Waiting() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string]int{}
	for name := range n.receivers {
		out[name] = len(n.state.Waiting[name])
		if f := n.state.Flights[name]; f != nil {
			out[name] += len(f.Notices)
		}
	}
	return out
}
