// Command openapi writes the schemas of Kubernetes' own kinds, as an API server publishes
// them, into the file that package schema embeds:
//
//	go run ./internal/testkit/kube/cmd/openapi -kubeconfig FILE -out sources/schema/builtin.json.gz
//
// The server should serve nothing but Kubernetes, as the sandbox does.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "of the server that is asked")
	out := flag.String("out", "", "the file that is written")
	flag.Parse()
	if err := run(*kubeconfig, *out); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

// server is the API server that is asked.
type server struct {
	client *http.Client
	host   string
}

func run(kubeconfig, out string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	s := server{client, strings.TrimSuffix(config.Host, "/")}
	all := document{Schemas: map[string]any{}, Kinds: map[string]string{}}
	var index struct {
		Paths map[string]struct {
			ServerRelativeURL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if err := s.get("/openapi/v3", &index); err != nil {
		return err
	}
	for path, at := range index.Paths {
		group, _, _ := strings.Cut(strings.TrimPrefix(path, "apis/"), "/")
		if path != "api/v1" && (!strings.HasPrefix(path, "apis/") || strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")) {
			continue
		}
		if err := s.add(&all, at.ServerRelativeURL); err != nil {
			return err
		}
	}
	return write(out, all)
}

func (s server) get(path string, into any) error {
	resp, err := s.client.Get(s.host + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// document is what is written.
type document struct {
	Schemas map[string]any    `json:"schemas"`
	Kinds   map[string]string `json:"kinds"`
}

// kubernetes begins the names of its own schemas.
var kubernetes = regexp.MustCompile(`^io\.k8s\.(api|apimachinery|apiextensions-apiserver|kube-aggregator)\.`)

// add takes the schemas of one group and version.
func (s server) add(all *document, path string) error {
	var doc struct {
		Components struct {
			Schemas map[string]map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := s.get(path, &doc); err != nil {
		return err
	}
	for name, schema := range doc.Components.Schemas {
		if !kubernetes.MatchString(name) {
			continue // somebody's custom resource
		}
		kinds, _ := schema["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			m, _ := k.(map[string]any)
			key := fmt.Sprintf("%v/%v/%v", m["group"], m["version"], m["kind"])
			if len(kinds) == 1 {
				all.Kinds[key] = name
			}
		}
		slim(schema)
		all.Schemas[name] = schema
	}
	return nil
}

// slim takes out what no check looks at.
func slim(schema map[string]any) {
	for key := range schema {
		if key == "description" || key == "title" || strings.HasPrefix(key, "x-kubernetes-") && key != "x-kubernetes-int-or-string" && key != "x-kubernetes-preserve-unknown-fields" {
			delete(schema, key)
		}
	}
	switch schema["default"] {
	case float64(0), "", false:
		// What a field of Go is before anything is set, not what a server fills in.
		delete(schema, "default")
	}
	if m, ok := schema["default"].(map[string]any); ok && len(m) == 0 {
		delete(schema, "default")
	}
	for key, value := range schema {
		switch v := value.(type) {
		case map[string]any:
			if key == "properties" {
				for _, p := range v {
					if m, ok := p.(map[string]any); ok {
						slim(m)
					}
				}
				continue
			}
			if key != "default" {
				slim(v)
			}
		case []any:
			for _, e := range v {
				if m, ok := e.(map[string]any); ok {
					slim(m)
				}
			}
		}
	}
}

func write(out string, all document) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(out, b.Bytes(), 0o644)
}
