package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// listener keeps the events of one stream.
type listener struct {
	mu   sync.Mutex
	all  []api.Event
	done chan struct{}
}

// listen follows events until the test, or the daemon, ends.
func (s *stage) listen(after string) *listener {
	s.t.Helper()
	l := &listener{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(func() { cancel(); <-l.done })
	go func() {
		defer close(l.done)
		_ = s.client.Events(ctx, api.EventsQuery{After: after}, func(e api.Event) error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.all = append(l.all, e)
			return nil
		})
	}()
	s.until("a stream of events has begun", func() error {
		if len(l.events()) == 0 {
			return errors.New("nothing came")
		}
		return nil
	})
	return l
}

func (l *listener) events() []api.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// expectEvent waits for an event.
func (s *stage) expectEvent(l *listener, what string, is func(api.Event) bool) {
	s.t.Helper()
	s.until("an event of "+what, func() error {
		all := l.events()
		if !slices.ContainsFunc(all, is) {
			text, _ := json.Marshal(all) // our own types always encode
			return fmt.Errorf("there are %s", text)
		}
		return nil
	})
}

// reading asks for everything again and again, until stop; what is wrong with an
// answer goes to problems.
type reading struct {
	client   *http.Client
	problems chan error
}

func (r *reading) read(ctx context.Context) {
	tags := map[string]string{}
	for ctx.Err() == nil {
		for _, path := range []string{api.PathEnvironments, api.PathEnvironments + "/host/objects?limit=7", api.PathDrift, api.PathPlans, api.PathTargets, api.PathHealth} {
			if err := r.once(ctx, path, tags); err != nil && ctx.Err() == nil {
				r.problems <- fmt.Errorf("%s: %w", path, err)
				return
			}
		}
	}
}

func (r *reading) once(ctx context.Context, path string, tags map[string]string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	if tags[path] != "" {
		req.Header.Set("If-None-Match", tags[path])
	}
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	tags[path] = res.Header.Get("ETag")
	switch {
	case err != nil:
		return err
	case res.StatusCode == http.StatusNotModified && len(body) == 0:
		return nil
	case res.StatusCode != http.StatusOK || !json.Valid(body):
		return fmt.Errorf("%s: %.200s", res.Status, body)
	}
	return nil
}

// TestManyReadAndFollowWhileThingsHappen: twenty read the lists as fast as they
// can and five follow what changes, while revisions, drift and decisions come and
// go. All that happens is in every stream, in order; nobody's answer is broken; and
// what is done stays right.
func TestManyReadAndFollowWhileThingsHappen(t *testing.T) {
	t.Parallel()
	s, dir := hostStage(t)
	files := map[string]string{
		"environments/host.yaml": "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: host}\nspec: {path: files, target: host}\n",
	}
	for i := range 20 {
		files[fmt.Sprintf("files/f%02d.yaml", i)] = hostFile(fmt.Sprintf("f%02d", i), "blue\n")
	}
	s.repo.Commit(t, files)
	s.start()
	s.settled("host", reconciler.Applied)

	ctx, stop := context.WithCancel(t.Context())
	r := &reading{problems: make(chan error, 20), client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 20,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "data", "holdfast.sock"))
		},
	}}}
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	for range 20 {
		readers.Go(func() { r.read(ctx) })
	}
	var streams []*listener
	for range 5 {
		streams = append(streams, s.listen(""))
	}

	commit := s.repo.Commit(t, map[string]string{"files/f03.yaml": hostFile("f03", "green\n")})
	run := s.resync("host")
	if run.Counts.Updated != 1 {
		t.Errorf("receipt %+v", run.Counts)
	}
	blue := "blue\n"
	s.replaceFile(filepath.Join(dir, "conf", "f00"), "red\n")
	s.expectFile(filepath.Join(dir, "conf", "f00"), &blue)
	holds, err := s.client.Hold(t.Context(), api.HoldRequest{Environments: []string{"host"}, For: "1h", Reason: "a look", Author: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range streams {
		s.expectEvent(l, "the revision", func(e api.Event) bool { return e.Source != nil && e.Source.Revision.ID == commit })
		s.expectEvent(l, "who asked", func(e api.Event) bool { return e.Type == api.EventResync && e.Action.Outcome == run.ID })
		s.expectEvent(l, "the run's beginning", func(e api.Event) bool { return e.Type == api.EventRunBegan && e.Run.ID == run.ID })
		s.expectEvent(l, "the run's end", func(e api.Event) bool {
			return e.Type == api.EventRunEnded && e.Run.ID == run.ID && e.Run.Result == reconciler.Applied
		})
		s.expectEvent(l, "the drift", func(e api.Event) bool { return e.Type == api.EventDriftOpened && e.Drift.Object.Name == "f00" })
		s.expectEvent(l, "its end", func(e api.Event) bool { return e.Type == api.EventDriftEnded && e.Drift.Object.Name == "f00" })
		s.expectEvent(l, "the hold", func(e api.Event) bool { return e.Type == api.EventHold && e.Action.Outcome == holds.Holds[0].ID })
		s.expectEvent(l, "the gate", func(e api.Event) bool { return e.Status != nil && e.Status.Applied.ID == commit && e.Status.Gates > 0 })
	}
	s.sameOrder(streams)
	s.listsAgree(commit, run, holds.Holds[0].ID)
	stop()
	readers.Wait()
	close(r.problems)
	for err := range r.problems {
		t.Error(err)
	}
	last := streams[0].events()
	s.stop()
	for _, l := range streams { // none holds up the end
		<-l.done
	}
	s.start()
	if again := s.listen(last[len(last)-1].ID).events(); again[0].Type != api.EventReset {
		t.Errorf("after a restart a stream begins with %+v", again[0])
	}
}

// sameOrder: of what two streams both have, the order is the same.
func (s *stage) sameOrder(streams []*listener) {
	s.t.Helper()
	first := streams[0].events()
	for _, l := range streams[1:] {
		place := 0
		for _, e := range l.events() {
			i := slices.IndexFunc(first, func(f api.Event) bool { return f.ID == e.ID })
			if e.Type == api.EventHello || i < 0 {
				continue
			}
			if i < place {
				s.t.Errorf("event %s is out of order", e.ID)
			}
			place = i
		}
	}
}

// listsAgree holds the lists to what happened.
func (s *stage) listsAgree(commit string, run reconciler.Run, hold string) {
	s.t.Helper()
	s.until("the record has the run", func() error {
		objects, err := s.client.Objects(s.t.Context(), "host", api.ObjectsQuery{Name: "f03"})
		if err != nil || len(objects.Objects) != 1 {
			return fmt.Errorf("%+v, %v", objects, err)
		}
		if o := objects.Objects[0]; o.Run != run.ID || o.LastApplied.IsZero() || o.Origin.String() != "files/f03.yaml:1" || o.Sync != reconciler.ObjectSynced {
			return fmt.Errorf("f03 is %+v", o)
		}
		return nil
	})
	holds, err := s.client.Holds(s.t.Context(), api.Page{})
	if err != nil || len(holds.Holds) != 1 || holds.Holds[0].ID != hold || holds.Holds[0].Environment != "host" {
		s.t.Errorf("holds %+v, %v", holds, err)
	}
	plans, err := s.client.Plans(s.t.Context(), api.Page{})
	if err != nil || len(plans.Plans) != 1 || len(plans.Plans[0].Gates) == 0 {
		s.t.Errorf("plans %+v, %v", plans, err)
	}
	targets, err := s.client.Targets(s.t.Context())
	if err != nil || len(targets.Targets) != 1 || targets.Targets[0].Driver != "files" || targets.Targets[0].Objects != 20 || targets.Targets[0].Environments != 1 {
		s.t.Errorf("targets %+v, %v", targets, err)
	}
	health, err := s.client.Health(s.t.Context())
	if err != nil || health.Streams.Open != 5 || health.Ledger == nil || health.Sources != 1 || len(health.Problems) > 0 || health.Started.IsZero() {
		s.t.Errorf("health %+v, %v", health, err)
	}
	report, err := s.client.Drift(s.t.Context(), api.DriftQuery{Since: time.Hour})
	if err != nil || len(report.Episodes) == 0 {
		s.t.Fatalf("drift %+v, %v", report, err)
	}
	detail, err := s.client.DriftOf(s.t.Context(), report.Episodes[0].ID)
	if err != nil || detail.Episode.ID != report.Episodes[0].ID || detail.Episode.Commit != commit {
		s.t.Errorf("drift by its id %+v, %v", detail, err)
	}
	cmd := program("objects", "host", "--data-dir", filepath.Join(s.dir, "data"))
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("files/f03.yaml:1")) {
		s.t.Errorf("%v: %s", err, out)
	}
}
