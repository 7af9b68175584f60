package server

import (
	"bytes"
	"crypto/tls"
	"encoding"
	"encoding/json"
	flags "flag"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
)

var update = flags.Bool("update", false, "write docs/openapi.json anew")

const openAPIFile = "../../../docs/openapi.json"

type object = map[string]any

// schemas are the JSON Schemas of Go types, as encoding/json writes them.
type schemas struct{ defs object }

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func (s *schemas) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return object{"anyOf": []any{s.of(t.Elem()), object{"type": "null"}}}
	case t.Implements(jsonMarshaler) || reflect.PointerTo(t).Implements(jsonMarshaler):
		return object{} // it says by itself how it looks
	case t.Implements(textMarshaler):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": []any{"string", "null"}, "contentEncoding": "base64"}
		}
		return object{"type": []any{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": []any{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.reference(t)
	}
	return object{}
}

func (s *schemas) reference(t reflect.Type) object {
	name := strings.ReplaceAll(filepath.Base(t.PkgPath()), "-", "") + "." + t.Name()
	if _, done := s.defs[name]; !done {
		s.defs[name] = object{} // ends a circle
		properties, required := object{}, []any{}
		s.fields(t, properties, &required)
		def := object{"type": "object", "properties": properties}
		if len(required) > 0 {
			def["required"] = required
		}
		s.defs[name] = def
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (s *schemas) fields(t reflect.Type, properties object, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct:
			s.fields(f.Type, properties, required)
			continue
		case !f.IsExported() || tag == "-":
			continue
		case tag == "":
			tag = f.Name
		}
		properties[tag] = s.of(f.Type)
		if !strings.Contains(options, "omit") {
			*required = append(*required, tag)
		}
	}
}

var inPath = regexp.MustCompile(`\{([a-z]+)\}`)

// describe is one operation.
func (s *schemas) describe(o operation) object {
	parameters := []any{}
	for _, m := range inPath.FindAllStringSubmatch(o.path, -1) {
		parameters = append(parameters, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, name := range o.query {
		parameters = append(parameters, object{"name": name, "in": "query", "schema": object{"type": "string"}, "description": queries[name]})
	}
	content := object{}
	switch {
	case o.media != "" && o.answer != nil:
		content[o.media] = object{"schema": s.of(o.answer)}
	case o.media != "":
		content[o.media] = object{}
	case o.answer != nil:
		content["application/json"] = object{"schema": s.of(o.answer)}
	}
	responses := object{
		"200":     object{"description": "what was asked for", "content": content},
		"default": object{"description": "why not", "content": object{api.ProblemType: object{"schema": s.of(reflect.TypeFor[api.Problem]())}}},
	}
	if o.later {
		responses["202"] = object{"description": "it has not ended yet", "content": content}
	}
	if o.tagged {
		responses["200"].(object)["headers"] = object{"ETag": object{"schema": object{"type": "string"}, "description": "for If-None-Match"}}
		responses["304"] = object{"description": "it is as If-None-Match says"}
	}
	out := object{"summary": o.summary, "operationId": o.id(), "parameters": parameters, "responses": responses}
	// One of these is enough. Reads need none of them, but where the configuration
	// says so; over the socket nothing does.
	out["security"] = []any{object{"bearer": []any{}}, object{"session": []any{}}, object{"sessionTLS": []any{}}}
	if o.method == "GET" {
		out["security"] = append(out["security"].([]any), object{"password": []any{}}, object{})
	}
	if o.body != nil {
		out["requestBody"] = object{"content": object{"application/json": object{"schema": s.of(o.body)}}}
	}
	if o.bodyMedia != "" {
		out["requestBody"] = object{"required": true, "content": object{o.bodyMedia: object{}}}
	}
	return out
}

// schemes are how callers over TCP say who they are.
var schemes = object{
	"bearer":     object{"type": "http", "scheme": "bearer", "description": "a token of server.tokens or server.tokenFile, or of a cluster's account"},
	"password":   object{"type": "http", "scheme": "basic", "description": "the token as the password, under any name; for reads only"},
	"session":    object{"type": "apiKey", "in": "cookie", "name": sessionCookie, "description": "a browser that signed in at " + PathLogin + "; a change has to say which page it comes from, by Origin or Sec-Fetch-Site"},
	"sessionTLS": object{"type": "apiKey", "in": "cookie", "name": "__Host-" + sessionCookie, "description": "the same over TLS"},
}

func makeOpenAPI(t *testing.T) []byte {
	t.Helper()
	s := &schemas{defs: object{}}
	paths := object{}
	for _, o := range operations {
		if paths[o.path] == nil {
			paths[o.path] = object{}
		}
		paths[o.path].(object)[strings.ToLower(o.method)] = s.describe(o)
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Holdfast", "version": "v1",
			"description": "What a Holdfast daemon answers. Over TCP, calls that change something need a bearer token, or the session of a browser that signed in, with the role operate, or administer for the ledger; others where server.readsNeedToken is set. Over the daemon's socket none is needed. Durations are written as 30s, 5m or 7d.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers": []any{object{"url": "/"}},
		"paths":   paths,
		"components": object{
			"schemas":         s.defs,
			"securitySchemes": schemes,
		},
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestTheOpenAPIDocumentIsCurrent(t *testing.T) {
	text := makeOpenAPI(t)
	if *update {
		if err := os.WriteFile(openAPIFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(openAPIFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, text) {
		t.Errorf("%s is not what the types say: run go test ./cmd/internal/server -update", openAPIFile)
	}
}

// TestTheOpenAPIDocumentHasEveryRoute reads the routes from the code: a handler
// of the API cannot be without a description.
func TestTheOpenAPIDocumentHasEveryRoute(t *testing.T) {
	told := []string{}
	for _, o := range operations {
		told = append(told, o.method+" "+o.path)
	}
	found := routesInCode(t)
	for _, r := range found {
		if strings.Contains(r, " /api/") && !slices.Contains(told, r) {
			t.Errorf("%s is not described", r)
		}
	}
	for _, r := range told {
		if !slices.Contains(found, r) {
			t.Errorf("%s is described, and there is no such route", r)
		}
	}
}

// routesInCode are the patterns that HandleFunc is called with.
func routesInCode(t *testing.T) []string {
	t.Helper()
	constants := map[string]string{}
	var routes []string
	for _, dir := range []string{"../api", "."} {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			local := maps.Clone(constants)
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					for i, v := range n.Values {
						if text, ok := constant(v, constants); ok {
							constants[n.Names[i].Name] = text
						}
					}
				case *ast.AssignStmt:
					if id, ok := n.Lhs[0].(*ast.Ident); ok {
						if text, ok := constant(n.Rhs[0], local); ok {
							local[id.Name] = text
						}
					}
				case *ast.CallExpr:
					f, ok := n.Fun.(*ast.SelectorExpr)
					if !ok || f.Sel.Name != "HandleFunc" && f.Sel.Name != "Handle" || len(n.Args) != 2 {
						return true
					}
					text, ok := constant(n.Args[0], local)
					if !ok {
						t.Errorf("%s: a route that is no constant", name)
					}
					routes = append(routes, text)
				}
				return true
			})
		}
	}
	return routes
}

// constant is the value of literals, names and their sums.
func constant(e ast.Expr, known map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == gotoken.STRING
	case *ast.Ident:
		text, ok := known[e.Name]
		return text, ok
	case *ast.SelectorExpr:
		text, ok := known[e.Sel.Name]
		return text, ok
	case *ast.BinaryExpr:
		a, okA := constant(e.X, known)
		b, okB := constant(e.Y, known)
		return a + b, okA && okB
	}
	return "", false
}

// TestAnswersAreAsTheDocumentSays validates real answers, and that the document is
// served.
func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	f := newFake("dev", "prod")
	f.episodes = []drift.Episode{drifted("prod", time.Time{})}
	_, lists, _ := listing(t)
	h := testServer(f, Options{Lists: lists}).Handler(true)
	res := ask(t, h, "GET", api.PathOpenAPI)
	doc := decode[any](t, res)
	if res.StatusCode != 200 || doc.(object)["openapi"] != "3.1.0" {
		t.Fatalf("%d: %v", res.StatusCode, doc)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ method, target, path, status string }{
		{"GET", "/api/v1/environments", "/api/v1/environments", "200"},
		{"GET", "/api/v1/environments/dev", "/api/v1/environments/{name}", "200"},
		{"GET", "/api/v1/environments/none", "/api/v1/environments/{name}", "default"},
		{"GET", "/api/v1/environments/prod/drift", "/api/v1/environments/{name}/drift", "200"},
		{"GET", "/api/v1/drift", "/api/v1/drift", "200"},
		{"GET", "/api/v1/environments/prod/objects?limit=3", "/api/v1/environments/{name}/objects", "200"},
		{"GET", "/api/v1/environments/prod/objects?sync=good", "/api/v1/environments/{name}/objects", "default"},
		{"GET", "/api/v1/targets", "/api/v1/targets", "200"},
		{"GET", "/api/v1/targets/east", "/api/v1/targets/{name}", "200"},
		{"GET", "/api/v1/targets/west", "/api/v1/targets/{name}", "default"},
		{"GET", "/api/v1/plans", "/api/v1/plans", "200"},
		{"GET", "/api/v1/holds", "/api/v1/holds", "200"},
		{"GET", "/api/v1/decisions", "/api/v1/decisions", "200"},
		{"GET", "/api/v1/drift/e1", "/api/v1/drift/{id}", "200"},
		{"GET", "/api/v1/health", "/api/v1/health", "200"},
		{"GET", "/api/v1/runs/last-resync", "/api/v1/runs/last-resync", "200"},
		{"POST", "/api/v1/resync", "/api/v1/resync", "202"},
		{"POST", "/api/v1/resync?wait=soon", "/api/v1/resync", "default"},
		{"GET", "/api/v1/runs", "/api/v1/runs", "default"},
	} {
		media := "application~1json"
		if tt.status == "default" {
			media = "application~1problem+json"
		}
		at := "openapi.json#/paths/" + strings.ReplaceAll(tt.path, "/", "~1") + "/" + strings.ToLower(tt.method) +
			"/responses/" + tt.status + "/content/" + media + "/schema"
		schema, err := compiler.Compile(strings.NewReplacer("{", "%7B", "}", "%7D").Replace(at))
		if err != nil {
			t.Fatal(err)
		}
		answer := decode[any](t, ask(t, h, tt.method, tt.target))
		if err := schema.Validate(answer); err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.target, err)
		}
		if schema.Validate(object{"title": 7, "runs": 7, "environments": 7, "environment": 7, "name": 7, "at": 7, "targets": 7, "plans": 7, "holds": 7, "decisions": 7, "episode": 7}) == nil {
			t.Errorf("%s %s: anything fits its schema", tt.method, tt.target)
		}
	}
}

// TestEverySecuritySchemeLetsIn: what the document says of how to show who one is.
func TestEverySecuritySchemeLetsIn(t *testing.T) {
	f := newFake("prod")
	s := testServer(f, Options{TokenFile: writeToken(t, token), ReadsNeedToken: true})
	h := s.Handler(false)
	signIn := func(over func(*http.Request)) func(*http.Request) {
		for _, c := range ask(t, h, "POST", PathLogin, fromForm("token="+token), over).Cookies() {
			if c.Value != "" && strings.HasSuffix(c.Name, sessionCookie) {
				return func(r *http.Request) { over(r); r.AddCookie(c); r.Header.Set("Sec-Fetch-Site", "same-origin") }
			}
		}
		t.Fatal("nobody could sign in")
		return nil
	}
	plain, secure := func(*http.Request) {}, func(r *http.Request) { r.TLS = &tls.ConnectionState{} }
	ways := map[string]func(*http.Request){
		"bearer": bearer(token), "password": func(r *http.Request) { r.SetBasicAuth("ann", token) }, "session": signIn(plain), "sessionTLS": signIn(secure),
	}
	for name := range schemes {
		way := ways[name]
		if way == nil {
			t.Errorf("nobody shows how %s is used", name)
			continue
		}
		if res := ask(t, h, "GET", api.PathEnvironments, way); res.StatusCode != http.StatusOK {
			t.Errorf("a read by %s: %d", name, res.StatusCode)
		}
		want := http.StatusAccepted
		if name == "password" {
			want = http.StatusUnauthorized // a browser sends it along with what another site asks for
		}
		if res := ask(t, h, "POST", api.PathResync, way, body("application/json", "{}")); res.StatusCode != want {
			t.Errorf("a change by %s: %d, want %d", name, res.StatusCode, want)
		}
		if name, ok := schemes[name].(object)["name"].(string); ok {
			r := httptest.NewRequest("GET", "/", nil)
			way(r)
			if _, err := r.Cookie(name); err != nil {
				t.Errorf("the cookie is not called %s", name)
			}
		}
	}
	if res := ask(t, h, "GET", api.PathEnvironments); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a read by nobody: %d", res.StatusCode)
	}
}
