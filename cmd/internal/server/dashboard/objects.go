package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// shownObjects bounds a page of objects.
const shownObjects = 300

// objectList is the objects of an environment, as its page shows them.
type objectList struct {
	// By is how they are put together: kind, namespace or layer.
	By     string
	Groups []objectGroup
	Total  int
	// States counts them, as filters.
	States []choice
	Sync   string
	Health string
	Name   string
	Next   string
	// Problem is why there are none to show.
	Problem *problem
}

// objectGroup is the objects that have one thing in common.
type objectGroup struct {
	Name    string
	Objects []reconciler.Object
	// Bad counts those that are not in sync or do not work.
	Bad int
}

func (d *Dashboard) objects(w http.ResponseWriter, r *http.Request) {
	b, ok := d.environmentOf(w, r, "objects")
	if !ok {
		return
	}
	in := r.URL.Query()
	list := objectList{By: in.Get("by"), Sync: in.Get("sync"), Health: in.Get("health"), Name: in.Get("name")}
	if list.By != "namespace" && list.By != "layer" {
		list.By = "kind"
	}
	q := url.Values{"limit": {strconv.Itoa(shownObjects)}}
	for _, key := range []string{"sync", "health", "name", "kind", "namespace", "page"} {
		if v := in.Get(key); v != "" {
			q.Set(key, v)
		}
	}
	address := twin(about(b.Name, "/objects"), q)
	found, problem := get[api.Objects](d, r, address)
	list.Problem, list.Total, list.Next = problem, found.Total, found.Next
	list.Groups = byObject(found.Objects, list.By)
	for _, s := range objectStates {
		if n := found.Counts[s]; n > 0 || list.Sync == string(s) {
			to := query(r.URL.Path, "by", list.By, "name", list.Name, "health", list.Health, "sync", s)
			on := list.Sync == string(s)
			if on {
				to = query(r.URL.Path, "by", list.By, "name", list.Name, "health", list.Health)
			}
			list.States = append(list.States, choice{Name: string(s), Label: string(s), Count: n, On: on, To: to})
		}
	}
	b.List = list
	d.show(w, r, http.StatusOK, "environment", d.newPage(r, "environments", b.Name+" objects", address, b))
}

// objectStates are the states of objects, the worst first.
var objectStates = []reconciler.ObjectSync{
	reconciler.ObjectFailed, reconciler.ObjectDrifted, reconciler.ObjectWaits, reconciler.ObjectUnwanted, reconciler.ObjectUnknown, reconciler.ObjectSynced,
}

// byObject groups objects, the groups with something wrong first.
func byObject(objects []reconciler.Object, by string) []objectGroup {
	var out []objectGroup
	place := map[string]int{}
	for _, o := range objects {
		key := o.Object.GroupKind()
		switch by {
		case "namespace":
			key = o.Object.Namespace
			if key == "" {
				key = "cluster"
			}
		case "layer":
			key = layer(o)
		}
		i, ok := place[key]
		if !ok {
			i = len(out)
			place[key] = i
			out = append(out, objectGroup{Name: key})
		}
		out[i].Objects = append(out[i].Objects, o)
		if o.Sync != reconciler.ObjectSynced || o.Health == reconciler.HealthFailed {
			out[i].Bad++
		}
	}
	slices.SortStableFunc(out, func(a, b objectGroup) int { return min(b.Bad, 1) - min(a.Bad, 1) })
	return out
}

// layer is where an object comes from: the file, and what rendered it.
func layer(o reconciler.Object) string {
	switch {
	case o.Origin.File == "":
		return "unknown"
	case o.Origin.Layer == "":
		return o.Origin.File
	}
	return o.Origin.File + " (" + o.Origin.Layer + ")"
}
