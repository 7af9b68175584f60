package dashboard

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// problem is why the API refused.
type problem api.Problem

// title is the status in words.
func (p problem) title() string {
	if text := http.StatusText(p.Status); text != "" {
		return strings.ToLower(text)
	}
	return "failed"
}

// answer keeps what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is that of the answer.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader keeps the first status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write keeps a part of the body.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// call calls the API as the one who sent r. Body is nil for a read.
func (d *Dashboard) call(r *http.Request, method, path string, body, into any) *problem {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return &problem{Status: http.StatusInternalServerError, Detail: err.Error()}
		}
	}
	req, err := http.NewRequestWithContext(r.Context(), method, path, bytes.NewReader(data))
	if err != nil {
		return &problem{Status: http.StatusBadRequest, Detail: "that is no address of the API"}
	}
	req.Host, req.RemoteAddr, req.TLS = r.Host, r.RemoteAddr, r.TLS
	req.Header.Set("Content-Type", "application/json")
	a := &answer{header: http.Header{}}
	d.opts.API.ServeHTTP(a, req)
	if a.status >= 300 {
		var p problem
		if err := json.Unmarshal(a.body.Bytes(), &p); err != nil || p.Detail == "" {
			p.Detail = strings.ToLower(http.StatusText(a.status))
		}
		p.Status = a.status
		return &p
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.body.Bytes(), into); err != nil {
		return &problem{Status: http.StatusInternalServerError, Detail: "the API's answer cannot be read: " + err.Error()}
	}
	return nil
}

// get reads from the API.
func get[T any](d *Dashboard, r *http.Request, path string) (T, *problem) {
	var out T
	p := d.call(r, http.MethodGet, path, nil, &out)
	return out, p
}
