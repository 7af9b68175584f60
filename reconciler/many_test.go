package reconciler

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// stuck is a target that does not answer.
type stuck struct{}

func (stuck) Compare(ctx context.Context, _ []sources.Item, _ Scope) ([]Operation, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (stuck) Apply(context.Context, Plan, func(Outcome)) error { return nil }
func (stuck) Watch(context.Context, func(Hint)) error          { return nil }
func (stuck) Health(string) (time.Time, []string)              { return time.Time{}, nil }

// TestBadEnvironmentsDoNotDelayTheOthers: of 200 environments of 25 things on 4
// slots, those on a cluster that does not answer, one that does not get healthy
// and one that does not render take no time from the others. The clock is the
// test's own: nothing but waiting makes it move.
func TestBadEnvironmentsDoNotDelayTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, known: map[string]Assignment{}, shelf: &shelf{
			things: map[sources.ID]string{}, applied: map[sources.ID]string{}, owner: map[sources.ID]string{},
			states: map[string]State{}, unready: map[string][]Unready{},
		}}
		b.engine = New(Options{Drivers: map[string]Driver{"default": b.shelf, "away": stuck{}}, Log: zerolog.Nop(), Runs: 4})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = b.engine.Run(ctx) // never fails
		}()
		began := time.Now()
		var all []Assignment
		for e := range 200 {
			name := fmt.Sprintf("env-%03d", e)
			var items []sources.Item
			for i := range 25 {
				items = append(items, thingItem(fmt.Sprintf("%s-%02d", name, i), "x"))
			}
			a := b.named(name, "1", items...)
			switch {
			case e%20 == 0: // ten of them on the cluster that is away, more than there are slots
				a.Spec.Target = "away"
			case e == 1:
				b.shelf.unready[name] = []Unready{{Object: items[0].ID, Why: "does not start"}}
				a.Spec.Health = environment.Health{Timeout: time.Hour}
			case e == 2:
				a.Render = func(context.Context) ([]sources.Item, error) { return nil, sources.Problem{Message: "is broken"} }
			}
			all = append(all, a)
		}
		b.engine.Assign(ctx, "shop", all, true, Trigger{Reason: ReasonPoll})
		synctest.Wait()
		clean := 0
		for _, s := range b.engine.Environments() {
			if s.Sync == SyncClean && s.Health == HealthReady {
				clean++
			}
		}
		if took := time.Since(began); clean != 188 || took != 0 {
			t.Errorf("%d environments are clean after %s; want 188 at once", clean, took)
		}
		cancel()
		<-done
	})
}
