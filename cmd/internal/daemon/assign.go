package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// lend is a hold on the snapshot in force, if it is another than the one held
// already, and what is wrong with the source. It may be called at any time.
func (f *follower) lend(held *lease) (*lease, error) {
	var problems sources.Problems
	f.sight.set(func(s *sight) { problems = slices.Clone(s.errors) })
	for {
		now := f.inForce.Load()
		switch {
		case now == nil && len(problems) == 0:
			return nil, sources.Problem{Object: "source " + f.name, Message: "has not been read yet"}
		case now == nil || now == held:
			return nil, problems.Err()
		case now.acquire():
			return now, problems.Err()
		}
		// It was replaced meanwhile.
	}
}

// put makes a repository the one in force and assigns its environments.
func (f *follower) put(ctx context.Context, l *lease, repo *environment.Repository, t reconciler.Trigger) error {
	old := f.current
	f.current, f.repo = l, repo
	f.replaceLent(nil)
	f.standing = f.again(ctx, t)
	if old != nil {
		old.release()
	}
	if f.moved != nil {
		f.moved()
	}
	return f.standing
}

// publish lets others take files from a snapshot in which there are no usable
// specs. That is an error only where there were some before: a source may be there
// for others alone.
func (f *follower) publish(snap *sources.Snapshot, why error) error {
	if f.current == nil {
		f.standing = nil
		if err := f.guard.accepted(snap.Revision); err != nil {
			f.head = ""
			snap.Close()
			return err
		}
		f.sight.set(func(s *sight) { s.revision = snap.Revision })
	} else {
		f.log.Error().Err(why).Str("revision", snap.Revision.Short()).Msg("revision has no usable specs; their last good state stays")
	}
	f.replaceLent(newLease(snap))
	if f.moved != nil {
		f.moved()
	}
	return f.standing
}

// replaceLent makes l what others take files from; nil for what is in force here.
func (f *follower) replaceLent(l *lease) {
	old := f.lent
	f.lent = l
	if l == nil {
		l = f.current
	}
	f.inForce.Store(l)
	if old != nil {
		old.release()
	}
}

// again looks at what the environments take from elsewhere, and assigns them. It
// returns what is wrong with the repository.
func (f *follower) again(ctx context.Context, t reconciler.Trigger) error {
	f.fresh = true
	f.elsewhere.look(ctx, f.repo, f.offline)
	all, nameless, complete := f.assignments(f.now())
	f.engine.Assign(ctx, f.name, all, complete, t)
	f.elsewhere.settle()
	return nameless.Err()
}

// follow is again where a fetch put no new repository in force, and there is
// something elsewhere. It reports whether it was.
func (f *follower) follow(ctx context.Context, t reconciler.Trigger) bool {
	needed := f.repo != nil && !f.fresh && f.elsewhere.needed(f.repo)
	if needed {
		f.standing = f.again(ctx, t)
	}
	f.fresh = false
	return needed
}

func (e *elsewhere) needed(repo *environment.Repository) bool {
	return len(repo.Templates) > 0 || slices.ContainsFunc(repo.Specs, func(s environment.Spec) bool { _, ok := e.placeOf(s); return ok })
}

// assignments makes one for every spec that has a name, broken ones included,
// and for every preview; the problems of the others are the source's. Complete:
// whatever is not among them is not asked for any more.
func (f *follower) assignments(now time.Time) (all []reconciler.Assignment, nameless sources.Problems, complete bool) {
	complete = true
	f.elsewhere.next = map[string]apart{}
	defer func() { f.elsewhere.tell(f.elsewhere.next) }()
	// A branch must not be able to take an environment's name.
	taken := map[string]bool{}
	for _, s := range f.repo.Specs {
		all = append(all, f.assign(s))
		taken[s.Name] = true
	}
	for _, b := range f.repo.Broken {
		taken[b.Name] = true
	}
	for _, t := range f.repo.Templates {
		instances, known := f.previews(t, now)
		for _, a := range instances {
			if taken[a.Spec.Name] {
				nameless = append(nameless, sources.Problem{
					File: t.Spec.File, Line: t.Spec.Line, Object: "Environment/" + a.Spec.Name,
					Message: "a preview of " + t.Spec.Name + " would have the name of another environment, and is not made", Hint: "rename the branch, the template or the environment",
				})
				continue
			}
			taken[a.Spec.Name] = true
			all = append(all, a)
		}
		if !known {
			complete = false
			nameless = append(nameless, f.unlisted(t)...)
		}
	}
	for _, b := range f.repo.Broken {
		switch {
		case b.Kind == environment.KindBlueprint && b.Name != "":
			nameless = append(nameless, b.Problems...)
		case b.Name == "":
			nameless = append(nameless, b.Problems...)
			complete = false
		default:
			// The document may be a template, or have another name than was read of
			// it: what is not named may still be asked for.
			complete = false
			all = append(all, f.broken(b.Name, b.File, b.Line, b.Problems))
		}
	}
	return all, nameless, complete
}

func (f *follower) broken(name, file string, line int, problem error) reconciler.Assignment {
	return reconciler.Assignment{
		Spec:   environment.Spec{Name: name, File: file, Line: line},
		Source: f.name, Revision: f.current.snap.Revision, Problem: problem,
	}
}

// assign makes the assignment of a spec, with its files from where they lie.
func (f *follower) assign(s environment.Spec) reconciler.Assignment {
	p, apart := f.elsewhere.placeOf(s)
	if !apart {
		return f.assignment(f.current, s)
	}
	return f.assignAt(p, s)
}

func (f *follower) assignAt(p place, s environment.Spec) reconciler.Assignment {
	c := f.elsewhere.contents[p]
	if c == nil || c.held == nil {
		trouble := sources.Problems{{File: s.File, Line: s.Line, Message: fmt.Sprintf("source %s has nothing to apply yet", p)}}
		if c != nil && c.err != nil {
			trouble = f.elsewhere.trouble(p, c.err)
		}
		return f.broken(s.Name, s.File, s.Line, trouble)
	}
	f.elsewhere.next[s.Name] = apart{spec: s, place: p}
	a := f.assignment(c.held, s)
	a.Trouble = f.elsewhere.trouble(p, c.err)
	return a
}

// unlisted says why the branches of a template are not known.
func (f *follower) unlisted(t environment.Template) sources.Problems {
	name := f.elsewhere.sourceOf(t)
	err := f.elsewhere.unlisted[name]
	if err == nil {
		return nil
	}
	out := f.elsewhere.trouble(place{source: name}, err)
	for i := range out {
		out[i].Message = "the branches for previews of " + t.Spec.Name + " are not known: " + out[i].Message
	}
	return out
}

// preview is a branch that gets an environment.
type preview struct {
	branch string
	place  place
	rev    sources.Revision
}

// previews are the environments of a template. They are known when the branches
// are: a branch that could not be listed or fetched must not look like one that
// is gone.
func (f *follower) previews(t environment.Template, now time.Time) (all []reconciler.Assignment, known bool) {
	source := f.elsewhere.sourceOf(t)
	known = f.elsewhere.unlisted[source] == nil
	var alive []preview
	branches := f.elsewhere.matching(t)
	if len(branches) == maxPreviewBranches {
		known = false // there may be more, which then must not look gone
	}
	for _, branch := range branches {
		p := preview{branch: branch, place: place{source: source, ref: "refs/heads/" + branch}}
		c := f.elsewhere.contents[p.place]
		if c == nil || c.held == nil {
			known = false
			continue
		}
		if p.rev = c.held.snap.Revision; !expired(p.rev, t.Spec.Preview.Lifetime, now) {
			alive = append(alive, p)
		}
	}
	slices.SortStableFunc(alive, func(a, b preview) int { return b.rev.Time.Compare(a.rev.Time) })
	alive = alive[:f.allowed(t, len(alive))]
	for _, p := range alive {
		spec, err := t.For(p.branch, p.rev.ID)
		if err != nil {
			all = append(all, f.broken(environment.InstanceName(t.Spec.Name, p.branch), t.Spec.File, t.Spec.Line, ofBranch(p.branch, err)))
			continue
		}
		a := f.assignAt(p.place, spec)
		if a.Render != nil {
			a.Render = confined(a.Render, spec)
		}
		all = append(all, a)
	}
	return all, known
}

// confined refuses what a preview asks for outside of its namespace. Whoever can
// push a branch decides what is in it, and nobody has reviewed that; the spec,
// which has been, names the namespace.
func confined(render func(context.Context) ([]sources.Item, error), s environment.Spec) func(context.Context) ([]sources.Item, error) {
	return func(ctx context.Context) ([]sources.Item, error) {
		items, err := render(ctx)
		if err != nil {
			return nil, err
		}
		var problems sources.Problems
		for _, i := range items {
			own := sources.ID{Kind: "Namespace", Name: s.Namespace}
			if i.ID.Namespace == s.Namespace || i.ID == own && s.CreateNamespace {
				continue
			}
			problems = append(problems, sources.Problem{
				File: i.Origin.File, Line: i.Origin.Line, Object: i.ID.String(),
				Message: fmt.Sprintf("is outside of namespace %s, in which this preview has to stay", s.Namespace),
				Hint:    "an environment without preview may have it",
			})
		}
		if err := problems.Err(); err != nil {
			return nil, err
		}
		return items, nil
	}
}

// allowed is how many of the branches of a template get an environment; that it
// is not all of them is said once.
func (f *follower) allowed(t environment.Template, branches int) int {
	most := t.Spec.Preview.Max
	if branches <= most {
		delete(f.elsewhere.crowded, t.Spec.Name)
		return branches
	}
	if !f.elsewhere.crowded[t.Spec.Name] {
		f.elsewhere.crowded[t.Spec.Name] = true
		f.log.Warn().Str("template", t.Spec.Name).Int("branches", branches).Int("max", most).Msg("more branches match than previews are allowed; the newest have one")
	}
	return most
}

// ofBranch adds to problems of a template which branch has them.
func ofBranch(branch string, err error) sources.Problems {
	out := slices.Clone(sources.ProblemsOf(err))
	for i := range out {
		out[i].Hint = strings.TrimPrefix(out[i].Hint+"; for branch "+branch, "; ")
	}
	return out
}
