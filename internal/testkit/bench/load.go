package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// The load of the API: so many readers, and so many streams of events, of which
// some are never read. How often each reader asks is an option: by itself once a
// second, as a page does that polls. The readers share the machine with the daemon
// and the API server, and cost more processor time than their answers do.
const (
	loadReaders = 200
	loadStreams = 50
	stuckOnes   = 5
)

// loadPaths are read in turn, each with the tag of the answer before.
var loadPaths = []string{
	"/api/v1/environments", "/api/v1/environments/bench", "/api/v1/environments/bench/objects?limit=100", "/api/v1/drift",
}

// load is what callers do to the API meanwhile.
type load struct {
	address string
	// client follows events.
	client *http.Client
	pace   time.Duration
	cancel context.CancelFunc
	all    sync.WaitGroup

	requests, unchanged, failed, events atomic.Int64
	mu                                  sync.Mutex
	times                               []time.Duration
}

// startLoad begins to read and to follow, until stop.
func startLoad(ctx context.Context, address, socket string, pace time.Duration) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{
		address: address, cancel: cancel, pace: pace, client: &http.Client{Transport: &http.Transport{}},
	}
	for range loadReaders {
		l.all.Go(func() { l.read(ctx) })
	}
	for range loadStreams - stuckOnes {
		l.all.Go(func() { l.follow(ctx) })
	}
	for range stuckOnes {
		l.all.Go(func() { l.hang(ctx, socket) })
	}
	return l
}

func (l *load) stop() {
	l.cancel()
	l.all.Wait()
	l.client.CloseIdleConnections()
}

// read is one reader, on a connection of its own. They begin spread over the pace.
func (l *load) read(ctx context.Context) {
	tags := make([]string, len(loadPaths))
	timer := time.NewTimer(rand.N(l.pace))
	defer timer.Stop()
	c, err := dial(ctx, l.address)
	if err != nil {
		l.fail(ctx)
		return
	}
	defer c.close()
	for i := rand.N(len(loadPaths)); ; i = (i + 1) % len(loadPaths) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(l.pace)
		began := time.Now()
		unchanged, err := c.get(loadPaths[i], &tags[i])
		if ctx.Err() != nil {
			return
		}
		l.note(time.Since(began), unchanged, err)
		if err != nil { // what comes next on the connection cannot be told
			return
		}
	}
}

func (l *load) fail(ctx context.Context) {
	if ctx.Err() == nil {
		l.failed.Add(1)
	}
}

func (l *load) note(took time.Duration, unchanged bool, err error) {
	l.requests.Add(1)
	switch {
	case err != nil:
		l.failed.Add(1)
	case unchanged:
		l.unchanged.Add(1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, took)
}

// reader is a connection for one call after the other. It costs less of the machine
// that the daemon shares with it than net/http's client, whose calls pass through
// three goroutines.
type reader struct {
	conn net.Conn
	in   *bufio.Reader
	host string
	stop func() bool
}

func dial(ctx context.Context, address string) (*reader, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &reader{conn: conn, in: bufio.NewReader(conn), host: address, stop: stop}, nil
}

func (c *reader) close() {
	c.stop()
	c.conn.Close()
}

func (c *reader) get(path string, tag *string) (unchanged bool, err error) {
	call := "GET " + path + " HTTP/1.1\r\nHost: " + c.host + "\r\n"
	if *tag != "" {
		call += "If-None-Match: " + *tag + "\r\n"
	}
	if _, err := io.WriteString(c.conn, call+"\r\n"); err != nil {
		return false, err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return false, err
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNotModified {
		return false, fmt.Errorf("%s: %s", path, res.Status)
	}
	*tag = res.Header.Get("ETag")
	return res.StatusCode == http.StatusNotModified, nil
}

// follow is one stream that is read.
func (l *load) follow(ctx context.Context) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.address+"/api/v1/events", nil)
	if err != nil {
		l.fail(ctx)
		return
	}
	res, err := l.client.Do(r)
	if err != nil {
		l.fail(ctx)
		return
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte("event: ")) {
			l.events.Add(1)
		}
	}
	l.fail(ctx) // the daemon ended it, unless the load ended
}

// hang asks for a stream and never reads it. It comes over the socket, whose
// buffers do not grow, so that it stands still soon.
func (l *load) hang(ctx context.Context, socket string) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err == nil {
		defer conn.Close()
		_, err = io.WriteString(conn, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	if err != nil {
		l.fail(ctx)
		return
	}
	<-ctx.Done()
}
