package server

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// objectFilter chooses objects.
func objectFilter(query url.Values) (func(reconciler.Object) bool, error) {
	err := oneOf(query, "sync", objectSyncWords...)
	if err == nil {
		err = oneOf(query, "health", healthWords...)
	}
	kind, namespace, name := query.Get("kind"), query.Get("namespace"), query.Get("name")
	sync, health := query.Get("sync"), query.Get("health")
	is := func(wanted, value string) bool { return wanted == "" || wanted == value }
	return func(o reconciler.Object) bool {
		return (kind == "" || kind == o.Object.Kind || kind == o.Object.GroupKind()) && is(namespace, o.Object.Namespace) &&
			is(sync, string(o.Sync)) && is(health, string(o.Health)) && strings.Contains(o.Object.Name, name)
	}, err
}

func (s *Server) objects(w http.ResponseWriter, r *http.Request) {
	name, query := r.PathValue("name"), r.URL.Query()
	if !s.mayKnow(w, r, name) {
		return
	}
	s.answerCached(w, r, func(ctx context.Context) (any, any, *api.Problem) {
		keep, err := objectFilter(query)
		if err != nil {
			return nil, nil, bad(err)
		}
		all, ok := s.opts.Lists.Objects(name)
		if !ok {
			return nil, nil, s.noEnvironment(callerOf(r), name)
		}
		out, err := objectsPage(query, all, keep)
		if err != nil {
			return nil, nil, bad(err)
		}
		out.Environment = name
		s.addApplied(ctx, name, out.Objects)
		return out, nil, nil
	})
}

// objectsPage is page for objects, which are counted and forgotten but for those of
// the page.
func objectsPage(query url.Values, all iter.Seq[reconciler.Object], keep func(reconciler.Object) bool) (api.Objects, error) {
	limit, err := limitOf(query, standardPage)
	if err != nil {
		return api.Objects{}, err
	}
	out := api.Objects{Objects: []reconciler.Object{}, Counts: map[reconciler.ObjectSync]int{}}
	after := query.Get("page")
	begun := after == ""
	for o := range all {
		if !keep(o) {
			continue
		}
		out.Total++
		out.Counts[o.Sync]++
		switch {
		case !begun:
			begun = o.Object.String() == after
		case len(out.Objects) < limit:
			out.Objects = append(out.Objects, o)
		case out.Next == "":
			out.Next = out.Objects[limit-1].Object.String()
		}
	}
	if !begun {
		return api.Objects{}, noPageEnd(after)
	}
	return out, nil
}

// addApplied adds when objects were last written, as far as that is on record.
func (s *Server) addApplied(ctx context.Context, environment string, objects []reconciler.Object) {
	if s.opts.Ledger == nil || len(objects) == 0 {
		return
	}
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.Object.String()
	}
	applied, err := s.opts.Ledger.LastApplied(ctx, environment, names)
	if err != nil { // the list is of use without it
		s.opts.Logger.Debug().Err(err).Msg("when objects were applied is left out")
		return
	}
	for i := range objects {
		o := &objects[i]
		if a, ok := applied[names[i]]; ok && a.At.After(o.LastApplied) {
			o.LastApplied, o.Run = a.At, a.Run
		}
	}
}
