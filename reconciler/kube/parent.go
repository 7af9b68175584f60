package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// annotationInstallation names the daemon that owns the environment.
const annotationInstallation = "holdfast.dev/installation"

// annotationSource names the source that has the environment, so that another
// source's environment of the same name cannot replace it.
const annotationSource = "holdfast.dev/source"

// rebuildEvery bounds how often kinds are looked for again that could not be.
const rebuildEvery = 5 * time.Minute

// annotationPartial is on a parent whose kinds were rebuilt without being able
// to ask for all of them.
const annotationPartial = "holdfast.dev/kinds-incomplete"

// parent is what an environment's parent object says (KEP-3659): which kinds and
// namespaces its objects may be found in. It is written before the first object
// of a new kind, so that nothing can be left behind unknown.
type parent struct {
	mu         sync.Mutex
	loaded     bool
	source     string
	kinds      map[schema.GroupKind]bool
	namespaces map[string]bool
	// unwritten: the object in the cluster lacks some of this.
	unwritten bool
	// rebuilt is when the kinds were last looked for.
	rebuilt time.Time
	// incomplete: some kinds could not be asked, so nothing may be pruned.
	incomplete error
	// records are what was done once; dirty ones are not written yet.
	records      records
	recordsDirty bool
}

var (
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
)

func parentName(environment string) string { return kubelive.ParentName(environment) }

func (t *Target) parent(environment string) *parent {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parents[environment]
	if p == nil {
		p = &parent{}
		t.parents[environment] = p
	}
	return p
}

// loadParent reads the parent object once. A missing one is rebuilt by looking
// for the environment's label over everything that can be listed.
func (t *Target) loadParent(ctx context.Context, owner kubelive.Owner, scope reconciler.Scope) (*parent, error) {
	p := t.parent(owner.Environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loaded && (p.incomplete == nil || scope.Partial || time.Since(p.rebuilt) < rebuildEvery) {
		return p, nil
	}
	p.source = scope.Source
	object, err := t.cluster.Objects.Resource(configMaps).Namespace(t.opts.StateNamespace).
		Get(ctx, kubelive.ParentName(owner.Environment), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		t.rebuild(ctx, p, owner)
		if p.incomplete == nil && len(p.kinds) == 0 {
			t.cluster.Index.ForgetAbsent(owner.Environment)
		}
	case err != nil:
		return nil, fmt.Errorf("read the environment's parent object: %w", err)
	default:
		if err := t.readParent(p, object); err != nil {
			return nil, err
		}
		if object.GetAnnotations()[annotationPartial] != "" {
			t.rebuild(ctx, p, owner)
		}
	}
	p.loaded = true
	return p, nil
}

func (t *Target) readParent(p *parent, object *unstructured.Unstructured) error {
	notes := object.GetAnnotations()
	if by := notes[annotationInstallation]; by != "" && by != t.opts.Installation {
		return sources.Problem{
			Object:  "ConfigMap/" + object.GetNamespace() + "/" + object.GetName(),
			Message: fmt.Sprintf("the environment belongs to the Holdfast installation %q, and this is %q", by, t.opts.Installation),
			Hint:    "let only one of them have it, or remove the annotation " + annotationInstallation,
		}
	}
	if by := notes[annotationSource]; by != "" && p.source != "" && by != p.source {
		return sources.Problem{
			Object:  "ConfigMap/" + object.GetNamespace() + "/" + object.GetName(),
			Message: fmt.Sprintf("the environment belongs to source %q, and this one is of source %q", by, p.source),
			Hint:    "rename one of them; if the source itself was renamed, remove the annotation " + annotationSource,
		}
	}
	if !p.recordsDirty {
		p.records = readRecords(object)
	}
	p.kinds, p.namespaces = map[schema.GroupKind]bool{}, map[string]bool{}
	for _, text := range strings.Split(notes[kubelive.AnnotationKinds], ",") {
		if text != "" {
			p.kinds[schema.ParseGroupKind(text)] = true
		}
	}
	for _, ns := range strings.Split(notes[kubelive.AnnotationNamespaces], ",") {
		if ns != "" {
			p.namespaces[ns] = true
		}
	}
	return nil
}

// rebuild finds the kinds in use by their label. Whatever cannot be listed keeps
// the parent incomplete, and pruning off.
func (t *Target) rebuild(ctx context.Context, p *parent, owner kubelive.Owner) {
	if p.kinds == nil {
		p.kinds, p.namespaces = map[schema.GroupKind]bool{}, map[string]bool{}
	}
	p.rebuilt, p.unwritten = time.Now(), true
	resources, err := t.cluster.Mapper.Listable()
	var mu sync.Mutex
	problems := []error{err}
	each(ctx, t, owner.Environment, resources, func(ctx context.Context, r kubelive.Resource) {
		for _, ns := range t.listScopes(r) {
			err := t.cluster.ListMetadata(ctx, r, ns, kubelive.LabelPartOf+"="+owner.ID, func(m *metav1.PartialObjectMetadata) {
				mu.Lock()
				defer mu.Unlock()
				p.kinds[schema.GroupKind{Group: r.GVR.Group, Kind: r.Kind}] = true
				if m.Namespace != "" {
					p.namespaces[m.Namespace] = true
				}
			})
			if err != nil && !neverOurs(errors.Unwrap(err)) {
				mu.Lock()
				problems = append(problems, err)
				mu.Unlock()
			}
		}
	})
	problems = append(problems, ctx.Err())
	p.incomplete = errors.Join(problems...)
}

// neverOurs reports whether the answer to a list means that no object of that
// kind can be ours: what we may not list we could not watch, and apply nothing
// of.
func neverOurs(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsForbidden(err)
}

func (t *Target) listScopes(r kubelive.Resource) []string {
	switch {
	case t.opts.Namespaces == nil:
		return []string{""}
	case r.Namespaced:
		return t.opts.Namespaces
	}
	return nil
}

// recordKinds writes the parent before objects of kinds or in namespaces that it
// does not name yet.
func (t *Target) recordKinds(ctx context.Context, owner kubelive.Owner, ids []sources.ID) error {
	p := t.parent(owner.Environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kinds == nil {
		return errors.New("the environment's parent object was not read")
	}
	fresh := p.unwritten
	for _, id := range ids {
		gk := kubelive.GroupKind(id)
		if !p.kinds[gk] || id.Namespace != "" && !p.namespaces[id.Namespace] {
			fresh = true
		}
		p.kinds[gk] = true
		if id.Namespace != "" {
			p.namespaces[id.Namespace] = true
		}
	}
	if !fresh {
		return nil
	}
	p.unwritten = true
	if err := t.writeParent(ctx, p, owner); err != nil {
		return err
	}
	p.unwritten = false
	return nil
}

func (t *Target) writeParent(ctx context.Context, p *parent, owner kubelive.Owner) error {
	kinds := make([]string, 0, len(p.kinds))
	for gk := range p.kinds {
		kinds = append(kinds, gk.String())
	}
	slices.Sort(kinds)
	var others []string
	for ns := range p.namespaces {
		if ns != t.opts.StateNamespace {
			others = append(others, ns)
		}
	}
	slices.Sort(others)
	notes := map[string]any{
		kubelive.AnnotationTooling:    "holdfast/" + t.opts.Version,
		kubelive.AnnotationKinds:      strings.Join(kinds, ","),
		kubelive.AnnotationNamespaces: strings.Join(others, ","),
		annotationInstallation:        t.opts.Installation,
		annotationSource:              p.source,
	}
	if p.incomplete != nil {
		notes[annotationPartial] = "true"
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{
			"name": kubelive.ParentName(owner.Environment), "namespace": t.opts.StateNamespace,
			"labels":      map[string]any{kubelive.LabelApplySetID: owner.ID, labelState: owner.Environment},
			"annotations": notes,
		},
	})
	if err != nil {
		return fmt.Errorf("write the environment's parent object: %w", err)
	}
	return t.applyParent(ctx, owner, body)
}

func (t *Target) applyParent(ctx context.Context, owner kubelive.Owner, body []byte) error {
	force := true
	apply := func() error {
		_, err := t.stateAPI().Patch(ctx,
			kubelive.ParentName(owner.Environment), types.ApplyPatchType, body,
			metav1.PatchOptions{FieldManager: FieldManager, Force: &force})
		return err
	}
	err := apply()
	if apierrors.IsNotFound(err) && t.opts.CreateState {
		if err = t.createState(ctx); err == nil {
			err = apply()
		}
	}
	if err != nil {
		return fmt.Errorf("write the environment's parent object in namespace %s: %w", t.opts.StateNamespace, err)
	}
	return nil
}

func (t *Target) createState(ctx context.Context) error {
	ns := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": t.opts.StateNamespace},
	}}
	_, err := t.cluster.Objects.Resource(namespaces).Create(ctx, ns, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
