package kube

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// Call is a request for a resource, taken apart.
type Call struct {
	// Verb is get, list, watch, create, update, patch, apply, delete or
	// deletecollection; for a path that is no resource's, such as discovery, it
	// is the HTTP method in lower case.
	Verb string
	// Path is the request's path, without its query.
	Path string
	// Group, Resource and the rest are empty for a path that is no resource's.
	Group, Version, Resource, Subresource, Namespace, Name string
	// DryRun is set when nothing is to be persisted.
	DryRun bool
}

// String is "apply deployments.apps/web/api".
func (c Call) String() string {
	if c.Resource == "" {
		return c.Verb + " " + c.Path
	}
	s := c.Resource
	if c.Group != "" {
		s += "." + c.Group
	}
	for _, part := range []string{c.Namespace, c.Name, c.Subresource} {
		if part != "" {
			s += "/" + part
		}
	}
	if c.DryRun {
		s += " (dry run)"
	}
	return c.Verb + " " + s
}

// Writes tells whether the call changes something when it succeeds.
func (c Call) Writes() bool {
	return !c.DryRun && !slices.Contains([]string{"get", "list", "watch", "head", "options"}, c.Verb)
}

// Match chooses calls. Empty fields match everything.
type Match struct {
	// Verb is a verb of Call, or "write" for all calls that change something.
	Verb string
	// Resource is the plural, with the group after a dot when it has one:
	// "configmaps", "deployments.apps".
	Resource string
	// Namespace and Name choose objects.
	Namespace, Name string
	// If is a further condition.
	If func(Call) bool
}

func (m Match) holds(c Call) bool {
	resource := c.Resource
	if c.Group != "" {
		resource += "." + c.Group
	}
	return (m.Verb == "" || m.Verb == c.Verb || m.Verb == "write" && c.Writes()) &&
		(m.Resource == "" || m.Resource == resource) &&
		(m.Namespace == "" || m.Namespace == c.Namespace) &&
		(m.Name == "" || m.Name == c.Name) &&
		(m.If == nil || m.If(c))
}

// callOf takes a request apart. The paths of the API are regular:
// /api/V/... or /apis/G/V/..., then [namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE]].
func callOf(r *http.Request) Call {
	c := Call{Verb: strings.ToLower(r.Method), Path: r.URL.Path, DryRun: dryRun(r)}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		c.Version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		c.Group, c.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return c
	}
	// /api/v1/namespaces/NS and its subresources are the Namespace itself.
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		c.Namespace, parts = parts[1], parts[2:]
	}
	c.Resource = parts[0]
	if len(parts) > 1 {
		c.Name = parts[1]
	}
	if len(parts) > 2 {
		c.Subresource = strings.Join(parts[2:], "/")
	}
	c.Verb = verbOf(r, c.Name != "")
	return c
}

// dryRun tells whether nothing is to be persisted. A delete says so in its body,
// all others in the query. Only bodies in JSON are read, which is what dynamic
// and controller-runtime clients send.
func dryRun(r *http.Request) bool {
	if r.Method != http.MethodDelete || r.GetBody == nil {
		return r.URL.Query().Has("dryRun")
	}
	var options struct{ DryRun []string }
	body, err := r.GetBody()
	if err != nil {
		return false
	}
	defer func() { _ = body.Close() }() // Only read from.
	// Another encoding leaves the options empty.
	_ = json.NewDecoder(body).Decode(&options)
	return len(options.DryRun) > 0 || r.URL.Query().Has("dryRun")
}

func verbOf(r *http.Request, named bool) string {
	switch r.Method {
	case http.MethodGet:
		switch watch := r.URL.Query().Get("watch"); {
		case watch == "true" || watch == "1":
			return "watch"
		case named:
			return "get"
		default:
			return "list"
		}
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch") {
			return "apply"
		}
		return "patch"
	case http.MethodDelete:
		if !named {
			return "deletecollection"
		}
		return "delete"
	default:
		return strings.ToLower(r.Method)
	}
}
