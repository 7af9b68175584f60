package dashboard

import (
	"net/http"
	"net/url"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// treeBody is what the page of one object shows.
type treeBody struct {
	api.ObjectTree
	// Ours is how the object stands, as the list has it; nil where that is not known.
	Ours   *reconciler.Object
	Source string
	// At is the commit that its origin is in.
	At string
}

// tree shows one object and what its target made of it. That is read for whoever
// looks, and for nobody else.
func (d *Dashboard) tree(w http.ResponseWriter, r *http.Request) {
	name, object := r.PathValue("name"), r.URL.Query().Get("object")
	address := twin(about(name, "/objects/tree"), url.Values{"object": {object}})
	found, problem := get[api.ObjectTree](d, r, address)
	if problem != nil {
		d.failed(w, r, "environments", *problem)
		return
	}
	b := treeBody{ObjectTree: found}
	if status, ok := d.opts.Engine.Environment(name); ok {
		b.Source, b.At = status.Source, status.Applied.ID
	}
	q := url.Values{"name": {found.Object.Name}, "kind": {found.Object.GroupKind()}, "limit": {"1000"}}
	if list, p := get[api.Objects](d, r, twin(about(name, "/objects"), q)); p == nil {
		for i := range list.Objects {
			if list.Objects[i].Object == found.Object {
				b.Ours = &list.Objects[i]
			}
		}
	}
	d.show(w, r, http.StatusOK, "tree", d.newPage(r, "environments", cut(object+" in "+name, maxTitle), address, b))
}

// treeOf is the address of an object's page.
func treeOf(environment string, id sources.ID) string {
	return query("/environments/"+url.PathEscape(environment)+"/objects/tree", "object", id)
}
