package render

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// LayerKustomize and LayerNamespace are the layers of items that no plain file
// holds: what kustomize built, and the namespace that createNamespace adds.
const (
	LayerKustomize = "kustomize"
	LayerNamespace = "createNamespace"
)

// finish puts items where they belong, adds the namespace that is asked for, and
// reports everything that speaks against the set as a whole.
func finish(items []sources.Item, req Request) ([]sources.Item, sources.Problems) {
	var problems sources.Problems
	scopes := scopesOf(items, req.Scopes)
	done := make([]sources.Item, 0, len(items)+1)
	for _, item := range items {
		placed, err := place(item, scopes, req.DefaultNamespace)
		if err != nil {
			problems = append(problems, sources.ProblemsOf(err)...)
			continue
		}
		done = append(done, placed)
	}
	if req.CreateNamespace {
		if req.DefaultNamespace == "" {
			problems = append(problems, sources.Problem{
				Message: "a namespace is to be created and none is named", Hint: "set spec.namespace",
			})
		} else {
			done = withNamespaceItem(done, req)
		}
	}
	for i := range done {
		if err := commonMetadata(&done[i], req); err != nil {
			problems = append(problems, sources.ProblemsOf(err)...)
		}
	}
	manifest.SortItems(done)
	problems = append(problems, manifest.Duplicates(done)...)
	manifest.SortProblems(problems)
	return done, problems
}

// place fills in the default namespace. A namespace where none belongs is a
// problem if somebody wrote it there, and is taken off if kustomize did, whose
// namespace field cannot know that a custom kind has none, or a chart, since Helm
// overlooks it.
func place(item sources.Item, scopes Scopes, namespace string) (sources.Item, error) {
	namespaced, known := scopes.Namespaced(item.ID.Group, item.ID.Kind)
	switch {
	case !known:
		return item, nil
	case namespaced && item.ID.Namespace == "" && namespace != "":
		return manifest.WithNamespace(item, namespace)
	case namespaced || item.ID.Namespace == "":
		return item, nil
	case item.Origin.Layer == LayerKustomize, item.Origin.Layer == LayerHelm:
		return manifest.WithNamespace(item, "")
	}
	return item, sources.Problem{
		File: item.Origin.File, Line: item.Origin.Line, Object: item.ID.String(),
		Message: fmt.Sprintf("metadata.namespace is set, and %s objects are in no namespace", item.ID.GroupKind()),
		Hint:    "remove metadata.namespace",
	}
}

func withNamespaceItem(items []sources.Item, req Request) []sources.Item {
	id := sources.ID{Kind: "Namespace", Name: req.DefaultNamespace}
	for _, i := range items {
		if i.ID == id {
			return items
		}
	}
	name, _ := json.Marshal(req.DefaultNamespace) // text always encodes
	body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%s}}`, name)
	origin := sources.Origin{File: req.Path, Layer: LayerNamespace}
	return append(items, sources.NewItem(id, "v1", origin, body, false))
}

// commonMetadata adds what the spec asks for to an object's metadata, and to that
// alone: a selector cannot be changed later, and a pod template's label would
// restart the pods.
func commonMetadata(item *sources.Item, req Request) error {
	if len(req.Labels)+len(req.Annotations) == 0 {
		return nil
	}
	next, err := manifest.WithMetadata(*item, req.Labels, req.Annotations)
	if err == nil {
		*item = next
	}
	return err
}
