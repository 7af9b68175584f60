package server

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Lists serves what there is beside environments and sources.
type Lists interface {
	// Objects are those of an environment, by identity.
	Objects(environment string) (iter.Seq[reconciler.Object], bool)
	// Tree reads one of them with what belongs to it.
	Tree(ctx context.Context, environment string, id sources.ID) (reconciler.Tree, error)
	// Decided are the holds and decisions that count.
	Decided(ctx context.Context) reconciler.Decided
	// Episode is a drift that is in memory.
	Episode(id string) (drift.Episode, bool)
	Targets() []api.Target
	// Working is how busy the workers are.
	Working() api.RunsHealth
	// NotificationsWaiting is what receivers have not taken, by receiver.
	NotificationsWaiting() map[string]int
}

func (s *Server) listRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.PathEnvironments+"/{name}/objects", s.objects)
	mux.HandleFunc("GET "+api.PathEnvironments+"/{name}/objects/tree", s.objectTree)
	mux.HandleFunc("GET "+api.PathTargets, s.targets)
	mux.HandleFunc("GET "+api.PathTargets+"/{name}", s.target)
	mux.HandleFunc("GET "+api.PathPlans, s.plans)
	mux.HandleFunc("GET "+api.PathHolds, s.holds)
	mux.HandleFunc("GET "+api.PathDecisions, s.decisions)
	mux.HandleFunc("GET "+api.PathDrift+"/{id}", s.driftOf)
	mux.HandleFunc("GET "+api.PathHealth, s.health)
}

// page cuts a list to what was asked for. Each item has a key, by which the list
// is ordered or which is unique in it; the next page begins after the last key.
func page[T any](query url.Values, all []T, standard int, key func(T) string) (part []T, next string, err error) {
	limit, err := limitOf(query, standard)
	if err != nil {
		return nil, "", err
	}
	if after := query.Get("page"); after != "" {
		i := slices.IndexFunc(all, func(v T) bool { return key(v) == after })
		if i < 0 {
			return nil, "", noPageEnd(after)
		}
		all = all[i+1:]
	}
	if limit > 0 && len(all) > limit {
		all = all[:limit]
		next = key(all[limit-1])
	}
	return all, next, nil
}

// limitOf is how many things are asked for; 0 is all.
func limitOf(query url.Values, standard int) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return standard, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > api.MaxPage {
		return 0, fmt.Errorf("limit must be a number from 1 to %d, and is %q", api.MaxPage, text)
	}
	return limit, nil
}

func noPageEnd(after string) error {
	return fmt.Errorf("%q is not where a page ended: the list may have changed; begin anew", after)
}

// sortedPage is page for a list that is ordered by its keys: the next page begins
// after the key, whether or not it is still there.
func sortedPage[T any](query url.Values, all []T, standard int, key func(T) string) (part []T, next string, err error) {
	if after := query.Get("page"); after != "" {
		i, _ := slices.BinarySearchFunc(all, after, func(v T, after string) int {
			if key(v) <= after {
				return -1
			}
			return 1
		})
		all = all[i:]
		query = without(query, "page")
	}
	return page(query, all, standard, key)
}

func without(query url.Values, name string) url.Values {
	out := url.Values{}
	for k, v := range query {
		if k != name {
			out[k] = v
		}
	}
	return out
}

// oneOf checks a parameter that is one of some words.
func oneOf[T ~string](query url.Values, name string, words ...T) error {
	given := query.Get(name)
	if given == "" || slices.Contains(words, T(given)) {
		return nil
	}
	return fmt.Errorf("%s is one of %s, and not %q", name, join(words), given)
}

var (
	syncWords = []reconciler.Sync{
		reconciler.SyncPending, reconciler.SyncVerifying, reconciler.SyncClean, reconciler.SyncDrifted, reconciler.SyncChanges,
		reconciler.SyncFailed, reconciler.SyncStale, reconciler.SyncStandby, reconciler.SyncRemoved,
	}
	healthWords     = []reconciler.Health{reconciler.HealthUnknown, reconciler.HealthReady, reconciler.HealthProgressing, reconciler.HealthFailed}
	objectSyncWords = []reconciler.ObjectSync{
		reconciler.ObjectSynced, reconciler.ObjectDrifted, reconciler.ObjectWaits, reconciler.ObjectFailed, reconciler.ObjectUnwanted, reconciler.ObjectUnknown,
	}
)

// environmentFilter chooses environments; a label is "name" or "name=value".
func environmentFilter(query url.Values) (func(reconciler.Status) bool, error) {
	err := oneOf(query, "sync", syncWords...)
	if err == nil {
		err = oneOf(query, "health", healthWords...)
	}
	name := query.Get("name")
	if _, bad := path.Match(name, ""); bad != nil {
		err = fmt.Errorf("name %q is no pattern", name)
	}
	labels := query["label"]
	return func(s reconciler.Status) bool {
		is := func(parameter, value string) bool { return query.Get(parameter) == "" || query.Get(parameter) == value }
		if !is("source", s.Source) || !is("target", s.Target) || !is("sync", string(s.Sync)) || !is("health", string(s.Health)) || !named(name, s.Name) {
			return false
		}
		return labelled(labels, s.Labels)
	}, err
}

// labelled: an environment has all of the labels, each "name" or "name=value".
func labelled(wanted []string, labels map[string]string) bool {
	return !slices.ContainsFunc(wanted, func(l string) bool {
		key, value, valued := strings.Cut(l, "=")
		have, ok := labels[key]
		return !ok || valued && have != value
	})
}

// named: a pattern, or a part of the name.
func named(wanted, name string) bool {
	if strings.ContainsAny(wanted, `*?[\`) {
		ok, err := path.Match(wanted, name)
		return ok && err == nil
	}
	return strings.Contains(name, wanted)
}

func (s *Server) environments(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	who := callerOf(r)
	s.answerCached(w, r, func(context.Context) (any, any, *api.Problem) {
		keep, err := environmentFilter(query)
		if err != nil {
			return nil, nil, bad(err)
		}
		all := slices.DeleteFunc(slices.Clone(s.opts.Engine.Environments()), func(e reconciler.Status) bool { return !who.mayRead(e.Name) || !keep(e) })
		part, next, err := sortedPage(query, all, 0, func(e reconciler.Status) string { return e.Name })
		if err != nil {
			return nil, nil, bad(err)
		}
		return api.Environments{
			Environments: orEmpty(part), Total: len(all), Next: next, Sources: s.opts.Engine.SourceProblems(), Ledger: s.ledgerProblem(),
		}, nil, nil
	})
}

func bad(err error) *api.Problem {
	p := badRequest(err)
	return &p
}

// standardPage is how many things a page lists, where lists may be long.
const standardPage = 500

func (s *Server) targets(w http.ResponseWriter, r *http.Request) {
	s.answerCached(w, r, func(context.Context) (any, any, *api.Problem) {
		return api.Targets{Targets: orEmpty(s.opts.Lists.Targets())}, nil, nil
	})
}

func (s *Server) target(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	all := s.opts.Lists.Targets()
	known := []string{}
	for _, t := range all {
		if t.Name == name {
			writeJSON(w, r, http.StatusOK, t)
			return
		}
		known = append(known, t.Name)
	}
	writeProblem(w, r, api.Problem{
		Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no target %q", name), Hint: "there are: " + strings.Join(known, ", "), Known: known,
	})
}

func (s *Server) plans(w http.ResponseWriter, r *http.Request) {
	query, who := r.URL.Query(), callerOf(r)
	s.answerCached(w, r, func(context.Context) (any, any, *api.Problem) {
		all := []api.HeldPlan{}
		for _, e := range s.opts.Engine.Environments() {
			if p, ok := heldPlan(e); ok && who.mayRead(e.Name) && (query.Get("environment") == "" || query.Get("environment") == e.Name) {
				all = append(all, p)
			}
		}
		part, next, err := sortedPage(query, all, standardPage, func(p api.HeldPlan) string { return p.Environment })
		if err != nil {
			return nil, nil, bad(err)
		}
		return api.Plans{Plans: orEmpty(part), Next: next}, nil, nil
	})
}

// heldPlan is what the last run of an environment left.
func heldPlan(e reconciler.Status) (api.HeldPlan, bool) {
	p := api.HeldPlan{Environment: e.Name, Gates: orEmpty(e.Gates), Operations: []reconciler.Waiting{}}
	if e.LastRun != nil {
		p.Revision, p.Hash, p.Run = e.LastRun.Revision, e.LastRun.PlanHash, e.LastRun.ID
		p.Operations, p.Pending = orEmpty(e.LastRun.Waiting), e.LastRun.Counts.Pending
	}
	return p, len(p.Gates)+len(p.Operations)+p.Pending > 0
}

func (s *Server) holds(w http.ResponseWriter, r *http.Request) {
	query, who := r.URL.Query(), callerOf(r)
	s.answerCached(w, r, func(ctx context.Context) (any, any, *api.Problem) {
		d := s.opts.Lists.Decided(ctx)
		all := slices.DeleteFunc(d.Holds, func(h reconciler.EnvironmentHold) bool {
			return h.Environment != "" && !aboutEnvironment(query, who, h.Environment)
		})
		part, next, err := page(query, all, standardPage, func(h reconciler.EnvironmentHold) string { return h.Environment + " " + h.Target + " " + h.ID })
		if err != nil {
			return nil, nil, bad(err)
		}
		return api.HoldList{Holds: orEmpty(part), Unread: d.Unread, Next: next}, nil, nil
	})
}

// aboutEnvironment: what concerns all is shown for each.
func aboutEnvironment(query url.Values, who caller, name string) bool {
	wanted := query.Get("environment")
	return who.mayRead(name) && (wanted == "" || wanted == name)
}

func (s *Server) decisions(w http.ResponseWriter, r *http.Request) {
	query, who := r.URL.Query(), callerOf(r)
	s.answerCached(w, r, func(ctx context.Context) (any, any, *api.Problem) {
		d := s.opts.Lists.Decided(ctx)
		all := slices.DeleteFunc(d.Decisions, func(e reconciler.EnvironmentDecision) bool { return !aboutEnvironment(query, who, e.Environment) })
		part, next, err := page(query, all, standardPage, func(e reconciler.EnvironmentDecision) string { return e.Environment + " " + e.ID })
		if err != nil {
			return nil, nil, bad(err)
		}
		return api.DecisionList{Decisions: orEmpty(part), Unread: d.Unread, Next: next}, nil, nil
	})
}

// shownHistory bounds the earlier drift and the runs beside a drift.
const shownHistory = 50

func (s *Server) driftOf(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	e, ok := s.opts.Lists.Episode(id)
	if !ok {
		err := fmt.Errorf("drift %q: %w", id, ledger.ErrNotFound)
		if s.opts.Ledger != nil {
			e, err = s.opts.Ledger.FindEpisode(r.Context(), id)
		}
		if err != nil {
			answer(w, r, nil, err)
			return
		}
	}
	if !callerOf(r).mayRead(e.Environment) {
		answer(w, r, nil, fmt.Errorf("drift %q: %w", id, ledger.ErrNotFound))
		return
	}
	out := api.DriftDetail{Episode: e, History: []drift.Episode{}, Decisions: []drift.Decision{}, Runs: []reconciler.Run{}}
	for _, d := range s.opts.Lists.Decided(r.Context()).Decisions {
		if d.Environment == e.Environment && d.Object == e.Object {
			out.Decisions = append(out.Decisions, d.Decision)
		}
	}
	if s.opts.Ledger != nil {
		s.addHistory(r.Context(), &out)
	}
	out.Episode = s.blamed(r.Context(), []drift.Episode{e})[0]
	writeJSON(w, r, http.StatusOK, out)
}

// addHistory adds what the ledger knows of the object; without it the drift shows
// all the same.
func (s *Server) addHistory(ctx context.Context, out *api.DriftDetail) {
	e := out.Episode
	history, err := s.opts.Ledger.Episodes(ctx, ledger.EpisodeQuery{Environment: e.Environment, Object: e.Object.String(), Limit: shownHistory})
	if err == nil {
		out.History = slices.DeleteFunc(history.Episodes, func(h drift.Episode) bool { return h.ID == e.ID })
		out.Next = history.Next
		var runs ledger.Runs
		runs, err = s.opts.Ledger.Runs(ctx, ledger.RunQuery{Environment: e.Environment, Object: e.Object.String(), Limit: shownHistory})
		out.Runs = orEmpty(runs.Runs)
	}
	if err != nil {
		s.opts.Logger.Debug().Err(err).Msg("the history of an object is left out")
	}
}
