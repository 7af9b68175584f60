package dashboard

import "net/http"

// objectList is the objects of an environment, as its page shows them.
type objectList struct{}

func (d *Dashboard) objects(w http.ResponseWriter, r *http.Request) {
	b, ok := d.environmentOf(w, r, "objects")
	if !ok {
		return
	}
	d.show(w, r, http.StatusOK, "environment", d.newPage(r, "environments", b.Name+" objects", about(b.Name, "/objects"), b))
}
