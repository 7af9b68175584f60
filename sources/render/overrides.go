package render

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// What a spec says about images, replicas and patches is done by kustomize, in
// the child, on the objects that it can touch: all others stay as they are, and
// kustomize, whose time grows with the square of the objects, gets them in
// batches.
const (
	batchObjects = 250
	batchBytes   = 8 << 20
)

// overlayDir is where the child finds the kustomizations that are made for it.
const overlayDir = ".holdfast"

// itemAnnotation carries an item's number through kustomize, which keeps what
// begins so even when a patch replaces all annotations by operations.
const itemAnnotation = "internal.config.kubernetes.io/holdfast-item"

// override changes items as the spec says.
func (r *Renderer) override(ctx context.Context, rec *recorder, req Request, items []sources.Item) ([]sources.Item, error) {
	if len(req.Images)+len(req.Replicas)+len(req.Patches) == 0 {
		return items, nil
	}
	if err := manifest.Duplicates(items).Err(); err != nil {
		return nil, err // kustomize would say so without places
	}
	o, err := newOverrides(rec, req, items)
	if err != nil {
		return nil, err
	}
	touched := o.touched()
	if len(touched) == 0 {
		return items, nil
	}
	c := &conversation{
		rec: rec, o: r.o.Manifest, program: "kustomize", blamed: req.Spec.File, overlay: map[string][]byte{},
	}
	if err := o.overlay(c, touched); err != nil {
		return nil, err
	}
	results := make(map[int][]sources.Item, len(touched))
	c.item = func(payload []byte) error { return o.take(c, payload, results) }
	c.failed = func(text string) error { return o.failed(text) }
	if err := r.converse(ctx, c); err != nil {
		return nil, err
	}
	return o.merge(touched, results), nil
}

// overrides are the changes that a spec asks for, and what they are done to.
type overrides struct {
	req      Request
	items    []sources.Item
	patches  []patch
	problems sources.Problems
}

// patch is one that was read, and tells what it may touch.
type patch struct {
	environment.Patch
	text string
	// targets are for a patch that names its own objects.
	targets []head
	match   func(sources.Item) bool
}

// head is what identifies an object in a patch.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct{ Name, Namespace string }
}

// is says whether an item is the object that a patch names. An object without a
// namespace is for kustomize one in "default".
func (h head) is(i sources.Item) bool {
	same := func(a, b string) bool {
		return a == b || (a == "" || a == "default") && (b == "" || b == "default")
	}
	return i.APIVersion() == h.APIVersion && i.ID.Kind == h.Kind && i.ID.Name == h.Metadata.Name && same(i.ID.Namespace, h.Metadata.Namespace)
}

func newOverrides(rec *recorder, req Request, items []sources.Item) (*overrides, error) {
	o := &overrides{req: req, items: items}
	for n, p := range req.Patches {
		read := patch{Patch: p, text: p.Patch}
		where := fmt.Sprintf("spec.patches[%d]", n)
		if p.Path != "" {
			text, err := o.patchFile(rec, where, p.Path)
			if err != nil {
				return nil, err
			}
			read.text = text
		}
		o.target(where, &read)
		o.patches = append(o.patches, read)
	}
	for n, replica := range req.Replicas {
		if !o.any(func(i sources.Item) bool { return scales(i, replica) }) {
			o.problem(fmt.Sprintf("spec.replicas[%d]: there is no Deployment, ReplicaSet, ReplicationController or StatefulSet %s", n, replica.Name), o.nearest(replica.Name))
		}
	}
	return o, o.problems.Err()
}

func (o *overrides) problem(message, hint string) {
	o.problems = append(o.problems, sources.Problem{File: o.req.Spec.File, Line: o.req.Spec.Line, Message: message, Hint: hint})
}

func (o *overrides) any(match func(sources.Item) bool) bool {
	for _, i := range o.items {
		if match(i) {
			return true
		}
	}
	return false
}

func (o *overrides) nearest(name string) string {
	names := make([]string, len(o.items))
	for i, item := range o.items {
		names[i] = item.ID.Name
	}
	if best := manifest.Closest(name, names); best != "" {
		return "did you mean " + best + "?"
	}
	return ""
}

func (o *overrides) patchFile(rec *recorder, where, name string) (string, error) {
	if !fs.ValidPath(name) {
		o.problem(fmt.Sprintf("%s.path: %q leads out of the repository", where, name), "paths begin at the root of the repository")
		return "", nil
	}
	kind, err := rec.stat(name)
	if err != nil {
		return "", err
	}
	if kind != file {
		hint, err := manifest.Missing(rec.tree, name)
		o.problem(fmt.Sprintf("%s.path: there is no file %q", where, name), hint)
		return "", err
	}
	data, err := rec.plain(name)
	return string(data), err
}

// target finds out what a patch may touch. It may name too much: kustomize
// decides.
func (o *overrides) target(where string, p *patch) {
	if p.Target != nil {
		kind, kindErr := anchored(p.Target.Kind)
		name, nameErr := anchored(p.Target.Name)
		if kindErr != nil || nameErr != nil {
			o.problem(where+".target: kind or name is not a regular expression", "")
			return
		}
		p.match = func(i sources.Item) bool { return kind.MatchString(i.ID.Kind) && name.MatchString(i.ID.Name) }
		return
	}
	if strings.HasPrefix(strings.TrimSpace(p.text), "[") || strings.HasPrefix(strings.TrimSpace(p.text), "- ") {
		o.problem(where+": a list of JSON patch operations needs a target", "")
		return
	}
	for _, chunk := range manifest.Split([]byte(p.text)) {
		if len(bytes.TrimSpace(chunk.Text)) == 0 || manifest.TooComplex(chunk.Text) {
			continue
		}
		var h head
		if err := yaml.Unmarshal(chunk.Text, &h); err != nil || h.Kind == "" || h.Metadata.Name == "" {
			o.problem(where+": is no strategic merge patch", "it needs apiVersion, kind and metadata.name, or a target")
			return
		}
		if !o.any(h.is) {
			o.problem(fmt.Sprintf("%s: there is no %s %s (%s) to be patched", where, h.Kind, h.Metadata.Name, h.APIVersion), o.nearest(h.Metadata.Name))
			return
		}
		p.targets = append(p.targets, h)
	}
	p.match = func(i sources.Item) bool {
		for _, h := range p.targets {
			if h.is(i) {
				return true
			}
		}
		return false
	}
}

func anchored(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		pattern = ".*"
	}
	return regexp.Compile("^(?:" + pattern + ")$")
}

// scales says whether an item is what a number of replicas is for.
func scales(i sources.Item, r environment.Replica) bool {
	if i.ID.Name != r.Name {
		return false
	}
	switch i.ID.Kind {
	case "Deployment", "ReplicaSet", "StatefulSet":
		return i.ID.Group == "apps"
	case "ReplicationController":
		return i.ID.Group == ""
	}
	return false
}

// touched are the indices of the items that a change may be about.
func (o *overrides) touched() (found []int) {
	for n, item := range o.items {
		if o.touches(item) {
			found = append(found, n)
		}
	}
	return found
}

func (o *overrides) touches(item sources.Item) bool {
	for _, p := range o.patches {
		if p.match(item) {
			return true
		}
	}
	for _, r := range o.req.Replicas {
		if scales(item, r) {
			return true
		}
	}
	if !bytes.Contains(item.Body, []byte(`"image":`)) {
		return false
	}
	for _, image := range o.req.Images {
		if bytes.Contains(item.Body, []byte(image.Name)) {
			return true
		}
	}
	return false
}

// overlay writes a kustomization for each batch of items.
func (o *overrides) overlay(c *conversation, touched []int) error {
	for len(touched) > 0 {
		var body bytes.Buffer
		n := 0
		for n < len(touched) && n < batchObjects && (n == 0 || body.Len() < batchBytes) {
			marked, err := manifest.WithMetadata(o.items[touched[n]], nil, map[string]string{itemAnnotation: strconv.Itoa(touched[n])})
			if err != nil {
				return err
			}
			body.WriteString("---\n")
			body.Write(marked.Body)
			body.WriteByte('\n')
			n++
		}
		dir := path.Join(overlayDir, fmt.Sprintf("batch-%d", len(c.job.Dirs)))
		k, err := o.kustomization(touched[:n])
		if err != nil {
			return err
		}
		c.overlay[path.Join(dir, "kustomization.yaml")] = k
		c.overlay[path.Join(dir, "items.yaml")] = body.Bytes()
		c.job.Dirs = append(c.job.Dirs, dir)
		touched = touched[n:]
	}
	return nil
}

// kustomization asks for the changes that are for some of the items. Those that
// must find their object are left out where it is not.
func (o *overrides) kustomization(batch []int) ([]byte, error) {
	type replicas struct {
		Name  string `json:"name"`
		Count int64  `json:"count"`
	}
	k := struct {
		Resources []string            `json:"resources"`
		Images    []environment.Image `json:"images,omitempty"`
		Replicas  []replicas          `json:"replicas,omitempty"`
		Patches   []environment.Patch `json:"patches,omitempty"`
	}{Resources: []string{"items.yaml"}, Images: o.req.Images}
	for _, r := range o.req.Replicas {
		for _, n := range batch {
			if scales(o.items[n], r) {
				k.Replicas = append(k.Replicas, replicas{r.Name, r.Count})
				break
			}
		}
	}
	for _, p := range o.patches {
		for _, text := range o.parts(p, batch) {
			k.Patches = append(k.Patches, environment.Patch{Patch: text, Target: p.Target, Options: p.Options})
		}
	}
	return json.Marshal(k)
}

// parts are the documents of a patch that are for a batch.
func (o *overrides) parts(p patch, batch []int) (texts []string) {
	if p.Target != nil {
		return []string{p.text}
	}
	at := 0
	for _, chunk := range manifest.Split([]byte(p.text)) {
		if len(bytes.TrimSpace(chunk.Text)) == 0 || manifest.TooComplex(chunk.Text) {
			continue
		}
		h := p.targets[at]
		at++
		for _, n := range batch {
			if h.is(o.items[n]) {
				texts = append(texts, string(chunk.Text))
				break
			}
		}
	}
	return texts
}

// take puts what became of an item to its number.
func (o *overrides) take(c *conversation, payload []byte, results map[int][]sources.Item) error {
	var b built
	if err := json.Unmarshal(payload, &b); err != nil {
		return fmt.Errorf("decode an item: %w", err)
	}
	var marked struct {
		Metadata struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(b.Object, &marked); err != nil {
		return fmt.Errorf("decode an item: %w", err)
	}
	n, err := strconv.Atoi(marked.Metadata.Annotations[itemAnnotation])
	if err != nil || n < 0 || n >= len(o.items) {
		if n = o.named(b.Object); n < 0 {
			return o.failed("a patch replaced both the annotations and the name of an object; let it do one of them")
		}
	}
	was := o.items[n]
	items, problems := manifest.Object(was.Origin, b.Object, c.o)
	c.problems = append(c.problems, problems...)
	for _, item := range items {
		next, err := manifest.WithoutAnnotation(item, itemAnnotation)
		if err != nil {
			return err
		}
		next.Sensitive = next.Sensitive || was.Sensitive
		results[n] = append(results[n], next)
	}
	return nil
}

// named is the number of the item that an object has the identity of, -1 if there
// is none.
func (o *overrides) named(object []byte) int {
	var h head
	if json.Unmarshal(object, &h) != nil {
		return -1
	}
	return slices.IndexFunc(o.items, h.is)
}

// merge puts the changed items where they were. One that gave nothing was
// deleted by a patch.
func (o *overrides) merge(touched []int, results map[int][]sources.Item) []sources.Item {
	changed := make(map[int]bool, len(touched))
	for _, n := range touched {
		changed[n] = true
	}
	out := make([]sources.Item, 0, len(o.items))
	for n, item := range o.items {
		if changed[n] {
			out = append(out, results[n]...)
		} else {
			out = append(out, item)
		}
	}
	return out
}

var overlayName = regexp.MustCompile(`'?` + regexp.QuoteMeta(overlayDir) + `/batch-\d+(?:/[a-z.]+)?'?:?`)

// failed is the problem of a change that kustomize could not make.
func (o *overrides) failed(text string) error {
	text = strings.ReplaceAll(text, childRoot+"/", "")
	text = overlayName.ReplaceAllString(unquoted(text), "the environment's objects")
	return sources.Problems{{
		File: o.req.Spec.File, Line: o.req.Spec.Line,
		Message: "images, replicas or patches cannot be applied: " + reason(text),
	}}
}
