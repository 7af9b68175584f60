package render

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// reader reads the fields of one kustomization.
type reader struct {
	s     *scanner
	k     *kustomization
	stack []string
	as    use
}

// knownFields are the fields that kustomize's own type has.
var knownFields = sync.OnceValue(func() []string {
	var names []string
	t := reflect.TypeFor[types.Kustomization]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" {
			names = append(names, "apiVersion", "kind")
			continue
		}
		names = append(names, name)
	}
	return names
})

// fields checks a kustomization field by field.
func (r *reader) fields(root *yaml.Node) error {
	first := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], resolve(root.Content[i+1])
		if line, twice := first[key.Value]; twice {
			r.s.problem(r.k, key, fmt.Sprintf("key %q is already set at line %d", key.Value, line), "")
			continue
		}
		first[key.Value] = key.Line
		if !slices.Contains(knownFields(), key.Value) {
			// Kustomize would take a name in other letter case; a field that can
			// be written in two ways is one that is overlooked.
			hint := ""
			if best := manifest.Closest(key.Value, knownFields()); best != "" {
				hint = "did you mean " + best + "?"
			}
			r.s.problem(r.k, key, fmt.Sprintf("unknown field %q", key.Value), hint)
			continue
		}
		if err := r.field(key, value); err != nil && !errors.Is(err, errRefused) {
			return err
		}
	}
	return nil
}

// resolve follows aliases to what they stand for.
func resolve(n *yaml.Node) *yaml.Node {
	for range 10 {
		if n.Kind != yaml.AliasNode {
			break
		}
		n = n.Alias
	}
	return n
}

func (r *reader) field(key, value *yaml.Node) error {
	as := r.as
	if as == asComponent {
		// What a component lists are resources like any other's.
		as = asResource
	}
	switch name := key.Value; name {
	case "apiVersion":
		return nil
	case "kind":
		r.k.component = value.Value == types.ComponentKind
		return nil
	case "resources":
		return r.each(value, name, as)
	}
	r.k.listOnly = false
	if key.Value == "images" || key.Value == "replicas" {
		r.changes(key.Value, value)
		return nil
	}
	r.k.light = false
	switch name := key.Value; name {
	case "bases":
		return r.each(value, name, as)
	case "components":
		return r.each(value, name, asComponent)
	case "crds", "configurations":
		return r.each(value, name, asFile)
	case "generators", "transformers", "validators":
		return r.each(value, name, asPlugin)
	case "patchesStrategicMerge":
		return r.each(value, name, asFile)
	case "patches", "patchesJson6902", "replacements":
		return r.below(value, name, "path")
	case "openapi":
		return r.paths(value, name, "path")
	case "configMapGenerator", "secretGenerator":
		return r.below(value, name, "files", "envs", "env")
	case "helmCharts", "helmChartInflationGenerator", "helmGlobals":
		r.s.problem(r.k, key, name+" is refused: kustomize would run helm", "render the chart into the repository")
	}
	return nil
}

// changes reads images or replicas. What has another form than ours is left to
// kustomize.
func (r *reader) changes(field string, value *yaml.Node) {
	var images []types.Image
	var replicas []types.Replica
	into := any(&images)
	if field == "replicas" {
		into = &replicas
	}
	if value.Decode(into) != nil {
		r.k.light = false
		return
	}
	for _, i := range images {
		if i.TagSuffix != "" || i.Name == "" {
			r.k.light = false
		}
		r.k.images = append(r.k.images, environment.Image{Name: i.Name, NewName: i.NewName, NewTag: i.NewTag, Digest: i.Digest})
	}
	for _, c := range replicas {
		r.k.replicas = append(r.k.replicas, environment.Replica{Name: c.Name, Count: c.Count})
	}
}

// each checks the references in a list.
func (r *reader) each(list *yaml.Node, field string, as use) error {
	if list.Kind != yaml.SequenceNode {
		if list.Kind != yaml.ScalarNode || list.ShortTag() != "!!null" {
			r.s.problem(r.k, list, field+" must be a list", "")
		}
		r.k.listOnly, r.k.light = false, false
		return nil
	}
	for _, n := range list.Content {
		n = resolve(n)
		if err := r.reference(n, field, as); err != nil && !errors.Is(err, errRefused) {
			return err
		}
	}
	return nil
}

// reference checks one entry of a list.
func (r *reader) reference(n *yaml.Node, field string, as use) error {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		r.s.problem(r.k, n, field+": an entry must be a path", "")
		return nil
	}
	inline := strings.Contains(n.Value, "\n") || strings.HasPrefix(strings.TrimSpace(n.Value), "{")
	if inline && as == asPlugin {
		r.plugins(n, field, r.k.file, []byte(n.Value))
		return nil
	}
	if inline && field == "patchesStrategicMerge" {
		return nil
	}
	full, kind, err := r.target(n, field, n.Value)
	if err != nil {
		return err
	}
	if field == "resources" {
		r.k.resources = append(r.k.resources, full)
	}
	switch {
	case kind == folder && as == asFile:
		r.s.problem(r.k, n, field+": "+full+" is a folder, not a file", "")
	case kind == folder:
		return r.descend(n, field, full, as)
	case as == asComponent:
		r.s.problem(r.k, n, field+": "+full+" is a file, and a component is a folder", "")
	case as == asPlugin:
		data, err := r.s.rec.read(full)
		if err != nil {
			return err
		}
		r.plugins(n, field, full, data)
	}
	return nil
}

// below checks the paths under some keys of each mapping of a list.
func (r *reader) below(list *yaml.Node, field string, keys ...string) error {
	if list.Kind != yaml.SequenceNode {
		return nil
	}
	for _, n := range list.Content {
		if err := r.paths(resolve(n), field, keys...); err != nil {
			return err
		}
	}
	return nil
}

// paths checks the paths under some keys of a mapping. Keys count in any letter
// case, as they do for kustomize.
func (r *reader) paths(mapping *yaml.Node, field string, keys ...string) error {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		name, value := mapping.Content[i].Value, resolve(mapping.Content[i+1])
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, name) }) {
			continue
		}
		entries := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			entries = value.Content
		}
		for _, e := range entries {
			if err := r.filePath(resolve(e), field+"."+name); err != nil && !errors.Is(err, errRefused) {
				return err
			}
		}
	}
	return nil
}

func (r *reader) filePath(n *yaml.Node, field string) error {
	ref := n.Value
	if n.Kind != yaml.ScalarNode || ref == "" {
		return nil
	}
	if key, file, named := strings.Cut(ref, "="); named && strings.HasSuffix(field, ".files") && !isRemote(key) {
		ref = file
	}
	full, kind, err := r.target(n, field, ref)
	if err == nil && kind == folder {
		r.s.problem(r.k, n, field+": "+full+" is a folder, not a file", "")
	}
	return err
}
