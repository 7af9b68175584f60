package ledger

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// story records what happens to one environment, minute by minute.
type story struct {
	t           *testing.T
	ledger      *Ledger
	environment string
	runs        int
}

func at(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }

// commitOf is the revision c5, which was committed at minute 5.
func commitOf(minute int) sources.Revision {
	return sources.Revision{ID: fmt.Sprintf("c%d", minute), Time: at(minute)}
}

func (s *story) run(minute int, to, before sources.Revision, counts reconciler.Counts) {
	s.runs++
	s.ledger.RunEnded(reconciler.Run{
		ID: fmt.Sprintf("%s-%d", s.environment, s.runs), Environment: s.environment, Result: reconciler.Applied, Revision: to, Before: before.ID,
		Started: at(minute).Add(-time.Second), Finished: at(minute), Counts: counts,
	})
}

func (s *story) deploy(minute int, to, before sources.Revision) {
	s.run(minute, to, before, reconciler.Counts{Updated: 1})
}

func (s *story) found(minute int, r sources.Revision, h reconciler.Health) {
	s.ledger.HealthChanged(reconciler.Verdict{Environment: s.environment, Revision: r, Health: h, At: at(minute)})
}

func (s *story) measure(from, until int) (Measures, []Deployment) {
	s.t.Helper()
	flush(s.t, s.ledger)
	d, err := s.ledger.Delivery(s.t.Context(), DeliveryQuery{Environment: s.environment, Since: at(from), Until: at(until)})
	if err != nil || d.Cut {
		s.t.Fatal(d.Cut, err)
	}
	if len(d.Environments) == 0 {
		return Measures{}, nil
	}
	return d.Environments[0], d.Deployments
}

func same(got *float64, minutes float64) bool { return got != nil && *got == minutes*60 }

func TestCommitsAreMeasuredUntilTheyWork(t *testing.T) {
	s := &story{t: t, ledger: running(t, Options{}), environment: "prod"}
	c := func(n int) sources.Revision { return commitOf(n) }
	s.deploy(1, c(0), sources.Revision{}) // the first: nothing was in force before
	s.found(2, c(0), reconciler.HealthReady)
	s.ledger.Moved(c(0), c(12), []sources.Revision{c(12), c(11), c(10)})
	s.ledger.Moved(c(12), c(13), []sources.Revision{c(13)}) // which changes nothing here
	s.ledger.Moved(c(13), c(15), []sources.Revision{c(15), c(14)})
	s.deploy(20, c(12), c(0))
	s.run(21, c(12), c(0), reconciler.Counts{Created: 1})                 // goes on with the same
	s.run(22, c(12), sources.Revision{}, reconciler.Counts{Corrected: 3}) // drift
	s.found(25, c(12), reconciler.HealthReady)
	s.found(26, c(12), reconciler.HealthReady) // as after a restart
	s.deploy(30, c(15), c(13))
	s.found(34, c(15), reconciler.HealthReady)
	s.deploy(40, c(39), c(38)) // the way between is not on record

	m, all := s.measure(0, 1440)
	if m.Deployments != 4 || m.Failed != 0 || m.PerDay != 4 || m.FailureRate == nil || *m.FailureRate != 0 || m.RestoreMedian != nil {
		t.Errorf("%+v", m)
	}
	// 15, 14 and 13 minutes for the first three, 20 and 19 for the others.
	if m.Commits != 5 || !same(m.LeadMedian, 15) || !same(m.LeadMax, 20) || m.Last == nil || !m.Last.Equal(at(40)) {
		t.Errorf("lead: %+v", m)
	}
	if len(all) != 4 || all[0].Ready != nil || all[1].Commits != 2 || all[2].Commits != 3 || all[3].Commits != 0 {
		t.Errorf("%+v", all)
	}
	s.found(41, c(39), reconciler.HealthReady)
	if m, _ := s.measure(35, 1440); m.Deployments != 1 || m.Commits != 1 || !same(m.LeadMax, 2) {
		t.Errorf("only its own commit is known: %+v", m)
	}
}

func TestFailuresAreMeasuredUntilAllWorksAgain(t *testing.T) {
	s := &story{t: t, ledger: running(t, Options{}), environment: "prod"}
	good, bad, worse, fixed, next := commitOf(0), commitOf(10), commitOf(40), commitOf(50), commitOf(60)
	s.deploy(1, good, sources.Revision{})
	s.found(2, good, reconciler.HealthReady)
	s.deploy(10, bad, good) // works, but somebody goes back
	s.found(12, bad, reconciler.HealthReady)
	s.deploy(30, good, bad)
	s.found(31, good, reconciler.HealthReady)
	s.deploy(40, worse, good) // does not work, and is mended by another
	s.found(45, worse, reconciler.HealthFailed)
	s.deploy(50, fixed, worse)
	s.found(53, fixed, reconciler.HealthReady)
	s.found(55, fixed, reconciler.HealthFailed) // a failure later is none of the deployment
	s.found(56, fixed, reconciler.HealthReady)
	s.deploy(60, next, fixed)
	s.found(65, next, reconciler.HealthFailed) // not restored yet

	m, all := s.measure(0, 1440)
	if m.Deployments != 5 || m.Failed != 3 || m.Restored != 2 || *m.FailureRate != .6 {
		t.Fatalf("%+v\n%+v", m, all)
	}
	if !same(m.RestoreMedian, 17) || !same(m.RestoreMax, 21) { // 21 and 13
		t.Errorf("restore: %v %v", *m.RestoreMedian, *m.RestoreMax)
	}
	want := []string{failedHealth, "", failedHealth, failedLeft, ""}
	for i, d := range all {
		if d.Failed != want[i] {
			t.Errorf("%s: failed %q, want %q", d.Revision, d.Failed, want[i])
		}
	}
	s.found(70, next, reconciler.HealthReady)
	if m, all := s.measure(60, 1440); m.Restored != 1 || !same(m.RestoreMax, 10) || all[0].Failed != failedHealth || all[0].Ready == nil {
		t.Errorf("restored by itself: %+v", m)
	}
}

func TestDeliveryIsToldByEnvironment(t *testing.T) {
	l := running(t, Options{})
	for i, name := range []string{"b", "a", "c"} {
		s := &story{t: t, ledger: l, environment: name}
		s.deploy(5, commitOf(4), commitOf(3))
		s.found(6+i, commitOf(4), reconciler.HealthReady)
	}
	flush(t, l)
	d, err := l.Delivery(t.Context(), DeliveryQuery{Since: start, Until: at(10)})
	if err != nil || len(d.Environments) != 3 || d.Environments[0].Environment != "a" || d.All.Deployments != 3 || !same(d.All.LeadMedian, 3) || len(d.Deployments) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := l.Delivery(t.Context(), DeliveryQuery{Since: at(6), Until: at(10)}); err != nil || len(d.Environments) != 0 || d.All.FailureRate != nil {
		t.Errorf("a time without: %+v, %v", d, err)
	}
	if _, err := l.Delivery(t.Context(), DeliveryQuery{Since: start, Until: start}); !errors.As(err, new(BadQuery)) {
		t.Errorf("no time: %v", err)
	}
}

func TestWhatDeliveryIsMeasuredByIsDeletedByAge(t *testing.T) {
	now := at(0)
	l, stop := begin(t, Options{Now: func() time.Time { return now }, MaxAge: time.Hour})
	defer stop()
	s := &story{t: t, ledger: l, environment: "prod"}
	s.found(-120, commitOf(1), reconciler.HealthReady)
	l.queue.addFact(fact{move: &move{revision: "old", before: "older", at: at(-120)}})
	s.found(-10, commitOf(2), reconciler.HealthFailed)
	l.Moved(commitOf(1), commitOf(2), []sources.Revision{commitOf(2)})
	flush(t, l)
	w := &writer{Ledger: l}
	w.tidy(t.Context())
	for _, table := range []string{"verdicts", "moves"} {
		var n int
		if err := l.read.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != 1 {
			t.Errorf("%s: %d left, %v", table, n, err)
		}
	}
}
