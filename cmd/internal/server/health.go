package server

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// health says how well Holdfast itself is. It costs a look at memory only.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, http.StatusOK, s.healthNow())
}

func (s *Server) healthNow() api.Health {
	h := api.Health{
		At: s.opts.Now(), Version: s.opts.Version, Started: s.opts.Started, Problems: []string{}, Runs: s.opts.Lists.Working(),
		Streams: api.StreamsHealth{Open: int(s.streams.Load()), Max: maxStreams},
		Memory:  memoryNow(), Targets: []api.TargetHealth{}, Environments: map[reconciler.Sync]int{},
		NotificationsWaiting: s.opts.Lists.NotificationsWaiting(),
	}
	if s.opts.Ready != nil {
		if err := s.opts.Ready(); err != nil {
			h.Ready = err.Error()
			h.Problems = append(h.Problems, "not ready: "+err.Error())
		}
	}
	if s.opts.Events != nil {
		_, h.Streams.Dropped = s.opts.Events.Following()
	}
	s.addLedgerHealth(&h)
	for _, t := range s.opts.Lists.Targets() {
		one := api.TargetHealth{
			Name: t.Name, LagSeconds: t.LagSeconds, Watches: len(t.Watches), InFlight: t.Requests.InFlight, Problems: slices.Clone(t.Problems),
		}
		if t.LeaseProblem != "" {
			one.Problems = append(one.Problems, t.LeaseProblem)
		}
		for _, p := range one.Problems {
			h.Problems = append(h.Problems, "target "+t.Name+": "+p)
		}
		h.Targets = append(h.Targets, one)
	}
	for _, e := range s.opts.Engine.Environments() {
		h.Environments[e.Sync]++
	}
	s.addSourceHealth(&h)
	return h
}

func (s *Server) addLedgerHealth(h *api.Health) {
	if s.opts.Ledger == nil {
		return
	}
	l := s.opts.Ledger.Stats()
	h.Ledger = &api.LedgerHealth{
		Bytes: l.Bytes, Queued: l.QueuedRuns + l.QueuedEpisodes, Errors: l.Errors, Lost: l.LostRuns + l.LostEpisodes, Problem: l.Problem,
	}
	if l.Problem != "" {
		h.Problems = append(h.Problems, "history is not recorded: "+l.Problem)
	}
}

func (s *Server) addSourceHealth(h *api.Health) {
	if s.opts.Sources == nil {
		return
	}
	for _, src := range s.opts.Sources.Sources() {
		h.Sources++
		if src.Failures > 0 {
			h.FailingSources++
			first, _, _ := strings.Cut(src.LastError, "\n")
			h.Problems = append(h.Problems, fmt.Sprintf("source %s cannot be read: %s", src.Name, first))
		}
	}
}

// memoryNow asks the runtime for single numbers, which stops nothing.
func memoryNow() api.MemoryHealth {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	return api.MemoryHealth{
		HeapBytes: samples[0].Value.Uint64(), SystemBytes: samples[1].Value.Uint64() - samples[2].Value.Uint64(), Goroutines: runtime.NumGoroutine(),
	}
}
