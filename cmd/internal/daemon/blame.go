package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

const (
	// blameWait bounds how long an answer waits for who wrote its lines, and
	// maxBlamed for how many lines that is looked up.
	blameWait = 5 * time.Second
	maxBlamed = 20
	// maxBlames bounds what is kept, blameRetry how long a line counts as one of
	// which nothing can be said.
	maxBlames  = 2000
	blameRetry = time.Minute
)

// blamer is a source that knows who wrote a line.
type blamer interface {
	Blame(ctx context.Context, revision string, places []gitrepo.Place) ([]gitrepo.Line, error)
}

// blameKey is a line of a revision: that on which a field of the object that
// begins on a line is set.
type blameKey struct {
	source, commit, file string
	begins               int
	field                string
}

// blames keeps who wrote which line. One look-up goes on at a time, so that
// readers cannot make the daemon ask servers more and more.
type blames struct {
	turn chan struct{}

	mu   sync.Mutex
	kept map[blameKey]blamed
}

type blamed struct {
	line *drift.Line
	// until is when it is looked up again; zero is never.
	until time.Time
}

func newBlames() *blames { return &blames{turn: make(chan struct{}, 1), kept: map[blameKey]blamed{}} }

func (b *blames) find(k blameKey) (*drift.Line, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have, ok := b.kept[k]
	if !ok || !have.until.IsZero() && time.Now().After(have.until) {
		return nil, false
	}
	return have.line, true
}

func (b *blames) keep(k blameKey, l gitrepo.Line) {
	have := blamed{}
	if l.Number > 0 {
		have.line = &drift.Line{
			Number: l.Number, Commit: l.Revision.ID, Author: l.Revision.Author, Time: l.Revision.Time, Subject: l.Revision.Subject, Unsure: l.Unsure,
		}
	}
	if l.Unsure != "" {
		have.until = time.Now().Add(blameRetry)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.kept) >= maxBlames {
		clear(b.kept)
	}
	b.kept[k] = have
}

// Blame implements server.Blamer.
func (d *daemon) Blame(ctx context.Context, episodes []drift.Episode) []drift.Episode {
	g := d.now.Load()
	if g == nil {
		return episodes
	}
	return d.blames.all(ctx, g.writtenIn, episodes)
}

// writtenIn is the source that an environment's files lie in, if it knows who
// wrote a line.
func (g *generation) writtenIn(environment string) (string, blamer) {
	status, _ := g.engine.Environment(environment)
	f := g.followers[status.Source]
	if f == nil {
		return "", nil
	}
	if a, ok := f.elsewhere.noted(environment); ok {
		f = g.followers[a.place.source]
	}
	if f == nil {
		return "", nil
	}
	b, _ := f.source.(blamer)
	return f.name, b
}

// all gives the episodes with what is known of their lines, and looks up what is
// not.
func (b *blames) all(ctx context.Context, writtenIn func(environment string) (string, blamer), episodes []drift.Episode) []drift.Episode {
	ctx, cancel := context.WithTimeout(ctx, blameWait)
	defer cancel()
	out := slices.Clone(episodes)
	lines := map[blameKey][]*drift.Change{}
	var order []blameKey
	sources := map[string]blamer{}
	for i := range out {
		e := &out[i]
		name, source := writtenIn(e.Environment)
		if source == nil || e.Origin.Line <= 0 || e.Origin.Layer != "" || e.Commit == "" || e.Class.Foreign() {
			continue
		}
		sources[name] = source
		e.Changes = slices.Clone(e.Changes) // others hold the same
		for j := range e.Changes {
			k := blameKey{source: name, commit: e.Commit, file: e.Origin.File, begins: e.Origin.Line, field: e.Changes[j].Path}
			if lines[k] == nil {
				order = append(order, k)
			}
			lines[k] = append(lines[k], &e.Changes[j])
		}
	}
	select {
	case b.turn <- struct{}{}:
		b.lookUp(gitrepo.Asked(ctx, time.Now()), sources, order)
		<-b.turn
	case <-ctx.Done(): // what is known already is told all the same
	}
	for k, changes := range lines {
		line, _ := b.find(k)
		for _, c := range changes {
			c.Line = line
		}
	}
	return out
}

// lookUp finds out about lines that are not known yet, as many as may be, those of
// one commit together.
func (b *blames) lookUp(ctx context.Context, sources map[string]blamer, lines []blameKey) {
	type commit struct{ source, id string }
	asked, byCommit := 0, map[commit][]blameKey{}
	for _, k := range lines {
		if _, known := b.find(k); known || asked == maxBlamed {
			continue
		}
		asked++
		at := commit{k.source, k.commit}
		byCommit[at] = append(byCommit[at], k)
	}
	for at, keys := range byCommit {
		places := make([]gitrepo.Place, len(keys))
		for i, k := range keys {
			places[i] = gitrepo.Place{Path: k.file, Line: k.begins, Find: func(content []byte) int {
				return manifest.LineOf(content, k.begins, drift.PathSteps(k.field))
			}}
		}
		found, err := sources[at.source].Blame(ctx, at.id, places)
		for i, k := range keys {
			if err == nil && !errors.Is(ctx.Err(), context.Canceled) { // who has gone learned nothing
				b.keep(k, found[i])
			}
		}
	}
}
