package render

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// A kustomization that only lists resources makes kustomize compare the id of
// every object with that of every other: half a minute for 5,000. Loading the
// files ourselves gives the same items, but for the few objects in which
// kustomize changes something even so; when there are such, kustomize does it.

// loadListed loads the files of a list-only kustomization as kustomize reads
// them. It says whether the result is what kustomize would give.
func (r *Renderer) loadListed(rec *recorder, files []string, o manifest.Options) (items []sources.Item, same bool, err error) {
	o.Dialect = manifest.Kustomize
	for _, f := range files {
		if err := rec.content(f); err != nil {
			return nil, false, err
		}
	}
	items, err = manifest.LoadFiles(rec.tree, files, o)
	if err != nil {
		special, lookErr := mentionsKustomize(rec, sources.ProblemsOf(err))
		if special || lookErr != nil {
			return nil, false, lookErr
		}
		return nil, false, err
	}
	if changedByKustomize(items) {
		return nil, false, nil
	}
	return items, true, nil
}

// light changes images and replicas as the kustomization says, and lets kustomize
// see only the objects that this can be about. It says whether the result is what
// kustomize would give for all.
func (r *Renderer) light(ctx context.Context, rec *recorder, k *kustomization, items []sources.Item) ([]sources.Item, bool, error) {
	for _, c := range k.replicas {
		if !slices.ContainsFunc(items, func(i sources.Item) bool { return scales(i, c) }) {
			return nil, false, nil // kustomize refuses it in its own words
		}
	}
	req := Request{Spec: sources.Origin{File: k.file}, Images: k.images, Replicas: k.replicas}
	items, err := r.override(ctx, rec, req, items)
	return items, err == nil, err
}

// kustomizeMarks are in the name of every annotation by which an object tells
// kustomize to drop, merge or rename it.
var kustomizeMarks = [][]byte{[]byte("config.kubernetes.io/"), []byte("kustomize.config.k8s.io/")}

// mentionsKustomize says whether a file with problems may hold objects that
// kustomize leaves out, so that their problems do not matter.
func mentionsKustomize(rec *recorder, problems sources.Problems) (bool, error) {
	for _, p := range problems {
		if p.File == "" {
			continue
		}
		data, err := rec.read(p.File)
		if err != nil {
			return false, fmt.Errorf("read %s: %w", p.File, err)
		}
		for _, mark := range kustomizeMarks {
			if bytes.Contains(data, mark) {
				return true, nil
			}
		}
	}
	return false, nil
}

// changedByKustomize says whether kustomize, asked only to list objects, would
// refuse or change one of them.
func changedByKustomize(items []sources.Item) bool {
	// An object without a namespace is for kustomize one in "default".
	type id struct{ apiVersion, kind, namespace, name string }
	seen := make(map[id]bool, len(items))
	referable := map[string]bool{}
	for _, i := range items {
		at := id{i.APIVersion(), i.ID.Kind, i.ID.Namespace, i.ID.Name}
		if at.namespace == "default" {
			at.namespace = ""
		}
		if seen[at] || marked(i.Body) {
			return true
		}
		seen[at] = true
		if i.ID.Kind == "ServiceAccount" || i.ID.Kind == "Service" {
			referable[i.ID.Name] = true
		}
	}
	for _, i := range items {
		if namesLooseReference(i, referable) {
			return true
		}
	}
	return false
}

func marked(body []byte) bool {
	for _, mark := range kustomizeMarks {
		if bytes.Contains(body, mark) {
			return true
		}
	}
	// An empty entry of a list is refused.
	return bytes.Contains(body, []byte("[null")) || bytes.Contains(body, []byte(",null"))
}

// namesLooseReference says whether an object refers to a service or service
// account of the set by a name without namespace, in one of the places where
// kustomize then writes the namespace that it finds.
func namesLooseReference(i sources.Item, referable map[string]bool) bool {
	type reference struct{ Name, Namespace *string }
	var object struct {
		Subjects []reference
		Webhooks []struct {
			ClientConfig struct{ Service *reference }
		}
	}
	switch {
	case strings.HasSuffix(i.ID.Kind, "RoleBinding"):
	case strings.HasSuffix(i.ID.Kind, "WebhookConfiguration"):
	default:
		return false
	}
	if json.Unmarshal(i.Body, &object) != nil {
		return true
	}
	loose := func(r reference) bool {
		unnamed := r.Namespace == nil || *r.Namespace == ""
		return r.Name == nil || unnamed && referable[*r.Name]
	}
	for _, s := range object.Subjects {
		if loose(s) {
			return true
		}
	}
	for _, w := range object.Webhooks {
		if w.ClientConfig.Service != nil && loose(*w.ClientConfig.Service) {
			return true
		}
	}
	return false
}
