package server

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// objectTree asks the target, since nobody keeps what is not ours.
func (s *Server) objectTree(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !s.mayKnow(w, r, name) {
		return
	}
	id, err := sources.ParseID(r.URL.Query().Get("object"))
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	if _, ok := s.opts.Engine.Environment(name); !ok {
		s.unknown(w, r, name)
		return
	}
	tree, err := s.opts.Lists.Tree(r.Context(), name, id)
	switch {
	case errors.Is(err, reconciler.ErrNotOurs):
		writeProblem(w, r, api.Problem{
			Status: http.StatusNotFound, Detail: fmt.Sprintf("%s is no object of %s", id, name),
			Hint: "`holdfast objects " + name + "` lists those there are",
		})
		return
	case err != nil:
		writeProblem(w, r, api.Problem{Status: http.StatusBadGateway, Detail: err.Error(), Hint: "the page of targets says how the target stands"})
		return
	}
	writeJSON(w, r, http.StatusOK, api.ObjectTree{Environment: name, Tree: tree})
}
