package oci

import (
	"sync"
	"time"
)

// Stats is what a source did since it was opened.
type Stats struct {
	// Listed is when the registry last told which manifest the reference is at,
	// Downloaded when a download last ended; zero for not since Open.
	Listed, Downloaded time.Time
	// Bytes and Took are those of the last download, the unpacking included.
	// Downloads and TotalBytes count all since Open.
	Bytes      int64
	Took       time.Duration
	Downloads  int64
	TotalBytes int64
	// CacheBytes is the size of the files that are kept.
	CacheBytes int64
}

// meter counts what an Artifact does.
type meter struct {
	mu  sync.Mutex
	now Stats
}

func (m *meter) listed(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Listed = at
}

func (m *meter) downloaded(bytes int64, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Downloaded, m.now.Bytes, m.now.Took = time.Now(), bytes, took
	m.now.Downloads++
	m.now.TotalBytes += bytes
}

// Stats are those of the source now.
func (a *Artifact) Stats() Stats {
	a.meter.mu.Lock()
	s := a.meter.now
	a.meter.mu.Unlock()
	s.CacheBytes = a.store.size()
	return s
}

func (s *store) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return 0
	}
	return s.current.stamps[0].size + s.current.stamps[1].size
}
