package render

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

// LayerHelm is the layer of items that a chart's template gave.
const LayerHelm = "helm"

// chartFile makes a folder a chart.
const chartFile = "Chart.yaml"

// archiveFile is where the child finds a chart that was fetched.
const archiveFile = ".holdfast/chart.tgz"

// DefaultKubeVersion is what charts see where no cluster is known, beside the API
// versions that client-go knows.
const DefaultKubeVersion = "v1.37.0"

// Capabilities are what charts see of a cluster.
type Capabilities struct {
	// KubeVersion is such as "v1.37.2".
	KubeVersion string `json:"kubeVersion,omitempty"`
	// APIVersions are such as "apps/v1" and "apps/v1/Deployment".
	APIVersions []string `json:"apiVersions,omitempty"`
}

// Charts fetches charts from where they are published.
type Charts interface {
	// Fetch gives the archive of a chart of an exact version. Its error is a
	// sources.Problem if the spec asks for something that is not allowed or not
	// there.
	Fetch(ctx context.Context, repo, chart, version string) ([]byte, error)
}

// helm renders a chart in a child.
func (r *Renderer) helm(ctx context.Context, rec *recorder, req Request) ([]sources.Item, error) {
	h := environment.Helm{}
	if req.Helm != nil {
		h = *req.Helm
	}
	values, err := chartValues(rec, req, h)
	if err != nil {
		return nil, err
	}
	var seen Capabilities
	if req.Capabilities != nil {
		if seen, err = req.Capabilities(ctx); err != nil {
			return nil, fmt.Errorf("ask the cluster what it serves: %w", err)
		}
		rec.capabilities = &seen
	}
	c := &conversation{
		rec: rec, o: r.o.Manifest, program: "helm",
		blamed: path.Join(req.Path, chartFile), job: job{Chart: newChartJob(req, h, values, seen)},
	}
	o := &chartOutput{c: c, dir: req.Path, skipHooks: h.SkipHooks}
	if h.Repo != "" {
		if err := r.fetchChart(ctx, req, h, c, o); err != nil {
			return nil, err
		}
	}
	c.item, c.failed = o.item, o.failed
	if err := r.converse(ctx, c); err != nil {
		return nil, err
	}
	return c.items, nil
}

func (r *Renderer) fetchChart(ctx context.Context, req Request, h environment.Helm, c *conversation, o *chartOutput) error {
	where := sources.Problem{File: req.Spec.File, Line: req.Spec.Line}
	if r.o.Charts == nil {
		where.Message = "spec.helm.repo: charts are fetched only where the daemon's configuration allows the registry"
		where.Hint = "add it under charts.registries, or copy the chart into the repository"
		return where
	}
	data, err := r.o.Charts.Fetch(ctx, h.Repo, h.Chart, h.Version)
	if p := new(sources.Problem); errors.As(err, p) {
		where.Message, where.Hint = "spec.helm: "+p.Message, p.Hint
		return where
	}
	if err != nil {
		return fmt.Errorf("fetch chart %s %s: %w", h.Chart, h.Version, err)
	}
	c.overlay = map[string][]byte{archiveFile: data}
	c.job.Chart.Archive, c.job.Chart.Dir = true, archiveFile
	o.dir, o.archive = h.Chart+"-"+h.Version, true
	c.blamed = path.Join(o.dir, chartFile)
	return nil
}

func newChartJob(req Request, h environment.Helm, values []chartLayer, seen Capabilities) *chartJob {
	apis := seen.APIVersions
	if len(apis) == 0 {
		apis = h.APIVersions
	}
	return &chartJob{
		Dir: req.Path, Values: values, SkipCRDs: h.SkipCRDs, SkipSchema: h.SkipSchemaValidation,
		Release:     cmp.Or(h.ReleaseName, req.Release, "release"),
		Namespace:   cmp.Or(req.DefaultNamespace, "default"),
		KubeVersion: cmp.Or(seen.KubeVersion, h.KubeVersion, DefaultKubeVersion),
		APIVersions: apis,
	}
}

// chartValues are the values of a spec, the later over the earlier.
func chartValues(rec *recorder, req Request, h environment.Helm) (layers []chartLayer, err error) {
	s := &scanner{rec: rec}
	for _, name := range h.ValuesFiles {
		layer, err := valuesFile(s, req, name, h.IgnoreMissingValuesFiles)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	if len(h.Values) > 0 {
		text, err := json.Marshal(h.Values)
		if err != nil {
			return nil, fmt.Errorf("encode helm.values: %w", err)
		}
		layers = append(layers, chartLayer{Name: "spec.helm.values", Text: string(text)})
	}
	for _, from := range h.ValuesFrom {
		text, problem := parameterValue(from, req.Values)
		if problem != "" {
			s.problems = append(s.problems, sources.Problem{File: req.Spec.File, Line: req.Spec.Line, Message: "spec.helm.valuesFrom: " + problem})
			continue
		}
		layers = append(layers, chartLayer{Name: "spec.helm.valuesFrom", Text: text})
	}
	return layers, s.problems.Err()
}

// valuesFile reads a file of values and checks what can be told with a line.
func valuesFile(s *scanner, req Request, name string, optional bool) (chartLayer, error) {
	layer := chartLayer{Name: name, Text: "{}"}
	complain := func(message, hint string) {
		s.problems = append(s.problems, sources.Problem{File: req.Spec.File, Line: req.Spec.Line, Message: "spec.helm.valuesFiles: " + message, Hint: hint})
	}
	if !fs.ValidPath(name) {
		complain(fmt.Sprintf("%q leads out of the repository", name), "paths begin at the root of the repository")
		return layer, nil
	}
	switch kind, err := s.rec.stat(name); {
	case err != nil:
		return layer, err
	case kind == folder:
		complain(fmt.Sprintf("%q is a folder", name), "")
		return layer, nil
	case kind == absent && optional:
		return layer, nil
	case kind == absent:
		hint, err := manifest.Missing(s.rec.tree, name)
		complain(fmt.Sprintf("%q does not exist", name), hint)
		return layer, err
	}
	data, err := s.rec.plain(name)
	if err != nil {
		return layer, err
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return layer, nil
	}
	if manifest.TooComplex(data) {
		s.problems = append(s.problems, sources.Problem{File: name, Message: "has too many entries to be read"})
		return layer, nil
	}
	if root := s.parse(name, data); root != nil {
		s.duplicates(name, root)
		layer.Text = string(data)
	}
	return layer, nil
}

// duplicates reports keys that are there twice: Helm would take the last of them
// without a word.
func (s *scanner) duplicates(name string, n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if line, twice := first[k.Value]; twice && k.ShortTag() != "!!merge" {
				s.problems = append(s.problems, sources.Problem{File: name, Line: k.Line, Column: k.Column, Message: fmt.Sprintf("key %q is already set at line %d", k.Value, line)})
				continue
			}
			first[k.Value] = k.Line
		}
	}
	for _, c := range n.Content {
		s.duplicates(name, c)
	}
}

// parameterValue is a parameter's value at its place in the values, as JSON.
func parameterValue(from environment.ValueFrom, values substitute.Values) (text, problem string) {
	value, ok := values[from.Parameter]
	if !ok {
		known := slices.Sorted(maps.Keys(values))
		if best := manifest.Closest(from.Parameter, known); best != "" {
			return "", fmt.Sprintf("there is no parameter %q (did you mean %s?)", from.Parameter, best)
		}
		return "", fmt.Sprintf("there is no parameter %q", from.Parameter)
	}
	for _, key := range slices.Backward(strings.Split(from.Path, ".")) {
		value = map[string]any{key: value}
	}
	data, err := json.Marshal(value)
	if err != nil {
		return "", fmt.Sprintf("parameter %q cannot be encoded", from.Parameter)
	}
	return string(data), ""
}
