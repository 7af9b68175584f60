package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// Entry is an event with its form on the wire, which all who follow share.
type Entry struct {
	Type        api.EventType
	Environment string
	// Frame is the event as server-sent events have it, with the blank line.
	Frame []byte
}

// ring holds the newest events.
type ring struct {
	keep, keepBytes int
	entries         []Entry
	bytes           int
	// next is the number of the event to come; the last of entries is next-1.
	next uint64
}

func (r *ring) first() uint64 { return r.next - uint64(len(r.entries)) }

func (r *ring) add(epoch string, e api.Event) {
	e.ID = idOf(epoch, r.next)
	frame := Frame(e)
	r.entries = append(r.entries, Entry{Type: e.Type, Environment: e.Environment, Frame: frame})
	r.next++
	r.bytes += len(frame)
	drop := 0
	for left := len(r.entries); left > r.keep || r.bytes > r.keepBytes && left > 1; left-- {
		r.bytes -= len(r.entries[drop].Frame)
		r.entries[drop] = Entry{}
		drop++
	}
	r.entries = r.entries[drop:]
}

// forget makes everybody begin anew.
func (r *ring) forget() {
	r.entries, r.bytes = nil, 0
	r.next++
}

// Frame is an event on the wire.
func Frame(e api.Event) []byte {
	data, err := json.Marshal(e)
	if err != nil { // our own types always encode
		panic(err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "id: %s\nevent: %s\ndata: %s\n\n", e.ID, e.Type, data)
	return b.Bytes()
}

func idOf(epoch string, number uint64) string { return epoch + "-" + strconv.FormatUint(number, 10) }

// numberOf is the number of an id of this epoch.
func (h *Hub) numberOf(id string) (uint64, bool) {
	text, ok := strings.CutPrefix(id, h.epoch+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// ID is that of the newest event: who reads how things stand after asking for it
// misses nothing by following from there.
func (h *Hub) ID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.awake && h.missed {
		// What was missed lies before what is read next.
		h.ring.forget()
		h.missed = false
	}
	return idOf(h.epoch, h.ring.next-1)
}

// Follower has a place among the events. Close it.
type Follower struct {
	hub  *Hub
	next uint64
}

// ErrBehind means that events were lost to a reader that was too slow.
var ErrBehind = errors.New("too slow: events were lost")

// Follow begins after an event, or with what comes next where that cannot be:
// then resumed is false.
func (h *Hub) Follow(after string) (f *Follower, resumed bool) {
	h.wakeUp()
	n, known := h.numberOf(after)
	h.mu.Lock()
	defer h.mu.Unlock()
	f = &Follower{hub: h, next: h.ring.next}
	if known && n+1 >= h.ring.first() && n < h.ring.next {
		f.next, resumed = n+1, true
	}
	return f, resumed
}

// wakeUp counts a follower, and has events made again. How things stand now is
// then what changes are told against: whoever follows reads it afterwards.
func (h *Hub) wakeUp() {
	h.looking.Lock()
	defer h.looking.Unlock()
	h.mu.Lock()
	h.followers++
	asleep := !h.awake
	h.awake = true
	if asleep && h.missed {
		h.ring.forget()
	}
	h.missed = false
	h.mu.Unlock()
	if asleep {
		h.lookAtAll()
	}
}

// Close gives up the place.
func (f *Follower) Close() {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.hub.followers--
	f.hub.left = time.Now()
}

// maxBatch bounds what Next returns at once.
const maxBatch = 256

// Next waits for events and returns them, or nothing when ctx ends.
func (f *Follower) Next(ctx context.Context) ([]Entry, error) {
	for {
		out, more, err := f.take()
		if err != nil || len(out) > 0 {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-more:
		}
	}
}

// At is the id of the last event that Next went past.
func (f *Follower) At() string { return idOf(f.hub.epoch, f.next-1) }

func (f *Follower) take() ([]Entry, <-chan struct{}, error) {
	h := f.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.next < h.ring.first() {
		return nil, nil, ErrBehind
	}
	rest := h.ring.entries[f.next-h.ring.first():]
	rest = rest[:min(len(rest), maxBatch)]
	f.next += uint64(len(rest))
	out := make([]Entry, len(rest))
	copy(out, rest) // the ring forgets its own
	return out, h.more, nil
}

// Drop counts a reader that was too slow; it is to be closed, too.
func (f *Follower) Drop() { f.hub.dropped.Add(1) }

// Following is how many follow, and how many were dropped because they were too
// slow.
func (h *Hub) Following() (now int, dropped uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.followers, h.dropped.Load()
}
