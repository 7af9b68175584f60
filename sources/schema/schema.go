// Package schema checks objects against the schemas of their kinds, without a
// cluster: those that Kubernetes brings, and those of the custom resource
// definitions that lie beside the objects.
//
// It finds unknown fields, values of the wrong type, required fields that are
// missing, and what a schema says about single values. It does not run the
// expressions of x-kubernetes-validations nor the further rules of an API server,
// and it is silent about kinds that it does not know. The schemas of Kubernetes
// are unpacked at the first use, so that a process that checks nothing pays
// nothing.
package schema

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the schemas of Kubernetes
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// KubernetesVersion is that of the built-in schemas.
const KubernetesVersion = "1.37"

// builtin is made by internal/testkit/kube/cmd/openapi.
//
//go:embed builtin.json.gz
var builtin []byte

// gvk is what a schema is for.
type gvk struct{ group, version, kind string }

// library is the schemas of Kubernetes.
type library struct {
	// Schemas are by name, to which references point.
	Schemas map[string]*node `json:"schemas"`
	// Kinds are names of schemas by "group/version/kind".
	Kinds map[string]string `json:"kinds"`
}

// kubernetes unpacks the built-in schemas once.
var kubernetes = sync.OnceValues(func() (*library, error) {
	z, err := gzip.NewReader(bytes.NewReader(builtin))
	if err != nil {
		return nil, fmt.Errorf("unpack the schemas of Kubernetes: %w", err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("unpack the schemas of Kubernetes: %w", err)
	}
	var l library
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, fmt.Errorf("read the schemas of Kubernetes: %w", err)
	}
	return &l, nil
})

const objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

// Set is the schemas that are known.
type Set struct {
	kubernetes *library
	custom     map[gvk]*node
	// groups are those of Kubernetes, with the kinds in them.
	groups map[string][]string
}

// New knows the kinds of Kubernetes and those that are defined by items.
func New(items ...sources.Item) (*Set, error) {
	l, err := kubernetes()
	if err != nil {
		return nil, err
	}
	s := &Set{kubernetes: l, custom: map[gvk]*node{}, groups: map[string][]string{}}
	for key := range l.Kinds {
		parts := strings.Split(key, "/")
		s.groups[parts[0]+"/"+parts[1]] = append(s.groups[parts[0]+"/"+parts[1]], parts[2])
	}
	for _, i := range items {
		if i.ID.Group == "apiextensions.k8s.io" && i.ID.Kind == "CustomResourceDefinition" {
			s.define(i)
		}
	}
	return s, nil
}

// define takes the schemas of a custom resource definition. One of another shape
// is told by its own check.
func (s *Set) define(i sources.Item) {
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema *node `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if json.Unmarshal(i.Body, &crd) != nil {
		return
	}
	for _, v := range crd.Spec.Versions {
		if v.Schema.OpenAPIV3Schema != nil {
			s.custom[gvk{crd.Spec.Group, v.Name, crd.Spec.Names.Kind}] = v.Schema.OpenAPIV3Schema
		}
	}
}

// Fault is one thing that is wrong with an object.
type Fault struct {
	// Path leads to the field: keys and indices.
	Path []string
	// Message never holds a value of the object.
	Message, Hint string
}

// Field is the path as people write it: spec.containers[0].image.
func (f Fault) Field() string {
	var b strings.Builder
	for _, step := range f.Path {
		switch {
		case isIndex(step):
			b.WriteString("[" + step + "]")
		case !plainKey.MatchString(step):
			b.WriteString("[" + step + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		}
	}
	return b.String()
}

var (
	plainKey = regexp.MustCompile(`^[\w$-]+$`)
	stable   = regexp.MustCompile(`^v\d+$`)
	digits   = regexp.MustCompile(`^\d+$`)
)

func isIndex(step string) bool { return digits.MatchString(step) }

// Check is all that is wrong with an item. It is empty for kinds that are not
// known.
func (s *Set) Check(i sources.Item) []Fault {
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(i.Body))
	d.UseNumber()
	if d.Decode(&object) != nil {
		return nil // an item's body is JSON
	}
	c := &checker{kubernetes: s.kubernetes.Schemas, left: maxSteps}
	if n, ok := s.custom[gvk{i.ID.Group, i.Version, i.ID.Kind}]; ok {
		c.custom(n, object)
		return c.faults
	}
	name, ok := s.kubernetes.Kinds[i.ID.Group+"/"+i.Version+"/"+i.ID.Kind]
	if !ok {
		return s.unknownKind(i)
	}
	c.value(c.kubernetes[name], object, nil)
	return c.faults
}

// unknownKind is a fault where a stable version of Kubernetes' own has no such
// kind. Versions in the making come and go, and are not judged.
func (s *Set) unknownKind(i sources.Item) []Fault {
	kinds, ours := s.groups[i.ID.Group+"/"+i.Version]
	if !ours || !stable.MatchString(i.Version) {
		return nil
	}
	slices.Sort(kinds)
	f := Fault{Path: []string{"kind"}, Message: fmt.Sprintf("Kubernetes %s has no kind %s in %s", KubernetesVersion, i.ID.Kind, i.APIVersion())}
	if best := manifest.Closest(i.ID.Kind, kinds); best != "" {
		f.Hint = "did you mean " + best + "?"
	}
	return []Fault{f}
}

// Problems checks items and says where in the tree each fault is written, as far
// as that is known.
func (s *Set) Problems(tree sources.Tree, items []sources.Item) sources.Problems {
	var problems sources.Problems
	for _, i := range items {
		for _, f := range s.Check(i) {
			p := sources.Problem{
				File: i.Origin.File, Line: i.Origin.Line, Object: i.ID.String(),
				Message: f.Field() + ": " + f.Message, Hint: f.Hint,
			}
			if f.Field() == "" {
				p.Message = f.Message
			}
			if p.Line > 0 {
				if line, column := locate(tree, p.File, p.Line, f.Path); line > 0 {
					p.Line, p.Column = line, column
				}
			}
			problems = append(problems, p)
		}
	}
	manifest.SortProblems(problems)
	return problems
}

func locate(tree sources.Tree, file string, line int, path []string) (int, int) {
	data, err := tree.ReadFile(file)
	if err != nil {
		return 0, 0 // the object's line is place enough
	}
	return manifest.Locate(data, line, path...)
}
