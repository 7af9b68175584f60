package render

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/konfig"
)

// functionAnnotations mark a plugin that kustomize would run in a container or
// as a program.
var functionAnnotations = []string{"config.kubernetes.io/function", "config.k8s.io/function"}

// plugins checks the configuration of generators, transformers or validators,
// which is either a file or written into the kustomization at a node.
func (r *reader) plugins(n *yaml.Node, field, file string, data []byte) {
	at := func(line int, message, hint string) {
		if file == r.k.file {
			r.s.problem(r.k, n, field+": "+message, hint)
			return
		}
		r.s.problem(&kustomization{file: file}, &yaml.Node{Line: line}, field+": "+message, hint)
	}
	defer func() {
		if recover() != nil {
			at(1, "the YAML parser gave up on this file", "")
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			at(0, "is not YAML: "+strings.TrimPrefix(err.Error(), "yaml: "), "")
			return
		}
		if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
			continue
		}
		r.plugin(doc.Content[0], n, field, at)
	}
}

func (r *reader) plugin(doc, n *yaml.Node, field string, at func(line int, message, hint string)) {
	kind := value(doc, "kind")
	annotations := child(child(doc, "metadata"), "annotations")
	for _, annotation := range functionAnnotations {
		if child(annotations, annotation) != nil {
			at(doc.Line, kind+" is a function that would run as a program or container", "only builtin plugins are run")
			return
		}
	}
	if value(doc, "apiVersion") != konfig.BuiltinPluginApiVersion {
		at(doc.Line, kind+" is a plugin that would run as a program", "only those of apiVersion "+konfig.BuiltinPluginApiVersion+" are run")
		return
	}
	if kind == "HelmChartInflationGenerator" {
		at(doc.Line, kind+" is refused: kustomize would run helm", "render the chart into the repository")
		return
	}
	r.pluginPaths(doc, field, at)
}

// pluginPaths refuses what a builtin plugin would fetch. Where its paths lead is
// left to kustomize, which asks the tree.
func (r *reader) pluginPaths(n *yaml.Node, field string, at func(line int, message, hint string)) {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		switch strings.ToLower(n.Content[i].Value) {
		case "path", "paths", "files", "env", "envs":
		default:
			continue
		}
		value := resolve(n.Content[i+1])
		for _, e := range append([]*yaml.Node{value}, value.Content...) {
			if e.Kind == yaml.ScalarNode && !strings.Contains(e.Value, "\n") && isRemote(e.Value) {
				at(e.Line, "a plugin refers to something remote, and nothing is fetched", "copy it into the repository and refer to the copy")
			}
		}
	}
}

// child is the value at a key of a mapping, nil if there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}

func value(n *yaml.Node, key string) string {
	if v := child(n, key); v != nil {
		return v.Value
	}
	return ""
}
