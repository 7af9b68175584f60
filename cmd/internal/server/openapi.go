package server

import (
	"net/http"

	"github.com/holdfast-gitops/holdfast/docs"
)

// openAPI serves the description of the API, which is made of its types and held
// to its routes by tests.
func openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(docs.OpenAPI) // an error means that the caller has gone
}
