package kube

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// yieldMark separates what stands for the yielded fields in a digest.
const yieldMark = "-y"

// digestWith is the digest of an item of which some fields are left to others,
// so that it is applied again when they become others.
func digestWith(digest string, yields []string) string {
	if len(yields) == 0 {
		return digest
	}
	sum := sha256.Sum256([]byte(strings.Join(yields, "\n")))
	return digest + yieldMark + hex.EncodeToString(sum[:4])
}

// yieldManager is the field manager that holds fields which we gave up and that
// nobody else owns yet, at their live values: a field without an owner would be
// reset to its default.
func yieldManager(owner kubelive.Owner) string {
	return "holdfast-yield:" + strings.TrimPrefix(owner.Manager, "holdfast:")
}

// yieldsOf are the fields of an item that are left to others: to autoscalers, to
// the cluster itself, and what conflicts showed.
func (t *Target) yieldsOf(item sources.Item) []string {
	t.mu.Lock()
	found := slices.Clone(t.yields[item.ID])
	t.mu.Unlock()
	found = append(found, t.scalers.yields(item)...)
	found = append(found, aggregated(item)...)
	slices.Sort(found)
	return slices.Compact(found)
}

// aggregated are the fields of an item that a controller of the cluster sets: the
// rules of a ClusterRole that is put together of others, which many manifests have
// as an empty list.
func aggregated(item sources.Item) []string {
	if item.ID.Kind != "ClusterRole" || item.ID.Group != "rbac.authorization.k8s.io" || !bytes.Contains(item.Body, []byte(`"aggregationRule"`)) {
		return nil
	}
	var role struct{ AggregationRule, Rules *json.RawMessage }
	if decode(item.Body, &role) != nil || role.AggregationRule == nil || role.Rules == nil {
		return nil
	}
	return []string{".rules"}
}

// noteConflicts forgets what earlier conflicts showed when the rules about them
// are others now.
func (t *Target) noteConflicts(want []sources.Item, scope reconciler.Scope) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, known := t.conflicts[scope.Environment]; known && !reflect.DeepEqual(old, scope.Conflicts) {
		for i := range want {
			delete(t.yields, want[i].ID)
		}
	}
	if !scope.Partial && !scope.Preview {
		t.conflicts[scope.Environment] = scope.Conflicts
	}
}

func (t *Target) addYields(id sources.ID, paths []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := append(t.yields[id], paths...)
	slices.Sort(all)
	t.yields[id] = slices.Compact(all)
}

// plainDigest is the digest of what is applied where nothing is left to others.
func (n note) plainDigest(op reconciler.Operation) string {
	if n.plain != "" {
		return n.plain
	}
	return op.Digest
}

// applyYielding applies an item to the live object, but for the fields that are
// left to others. Conflicts with other managers are decided as the environment's
// rules say. Live may be nil where it is not needed; version binds the write.
func (t *Target) applyYielding(ctx context.Context, w writer, op *reconciler.Operation, n note, live *unstructured.Unstructured, version string) (*unstructured.Unstructured, error) {
	api := w.api(n.resource, op.Object)
	yields, force := n.yields, n.takesAll(op.Object)
	for range 4 {
		if len(yields) > 0 || strings.Contains(n.prior, yieldMark) || len(op.Leave) > 0 {
			held, err := t.holdFields(ctx, w, *op, n, live, yields)
			if err != nil {
				return nil, err
			}
			if live = held; version != "" {
				version = live.GetResourceVersion()
			}
		}
		body, err := n.body(*op, w.owner, live, yields, version)
		if err != nil {
			return nil, err
		}
		response, err := t.patch(ctx, api, op.Object.Name, body, w.owner.Manager, patchMode{force: force})
		if !isFieldConflict(err) {
			return response, err
		}
		yield, failure := n.decide(op.Object, err)
		if failure != nil {
			return nil, failure
		}
		// What remains in conflict is to be taken.
		force = true
		if len(yield) > 0 {
			t.addYields(op.Object, yield)
			yields = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(yields), yield...))))
		}
	}
	return nil, sources.Problem{Message: "its fields change owners faster than they can be applied", Hint: "it is tried again"}
}

// body is what is applied: without what is yielded, and with the live value of
// what a correction leaves alone.
func (n note) body(op reconciler.Operation, owner kubelive.Owner, live *unstructured.Unstructured, yields []string, version string) ([]byte, error) {
	body, err := bodyOf(op.Item, owner, digestWith(n.plainDigest(op), yields), op.UID, version)
	if err != nil || len(yields)+len(op.Leave) == 0 {
		return body, err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(body); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	for _, path := range yields {
		kubelive.Without(object.Object, path)
	}
	for _, path := range op.Leave {
		kubelive.Take(object.Object, live.Object, path)
	}
	return json.Marshal(object.Object)
}

// holdFields has the second field manager take what is yielded and what we own
// now, at the live values, and let go of what is yielded no more. It answers the
// live object.
func (t *Target) holdFields(ctx context.Context, w writer, op reconciler.Operation, n note, live *unstructured.Unstructured, yields []string) (*unstructured.Unstructured, error) {
	manager := yieldManager(w.owner)
	var again patience
	for {
		var err error
		if live == nil {
			if live, err = t.cluster.Get(ctx, n.resource, op.Object); err != nil {
				return nil, err
			}
		}
		object := map[string]any{
			"apiVersion": op.Item.APIVersion(), "kind": op.Object.Kind,
			"metadata": map[string]any{
				"name": op.Object.Name, "uid": string(live.GetUID()), "resourceVersion": live.GetResourceVersion(),
			},
		}
		held := 0
		for _, path := range yields {
			if kubelive.Owns(live, live.Object, w.owner.Manager, path) || kubelive.Owns(live, live.Object, manager, path) {
				kubelive.Take(object, live.Object, path)
				held++
			}
		}
		if held == 0 && !kubelive.HasEntry(live, manager) {
			return live, nil
		}
		body, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		after, err := t.patch(ctx, w.api(n.resource, op.Object), op.Object.Name, body, manager, patchMode{force: true})
		if err == nil {
			return after, nil
		}
		if !isStale(err) || !again.wait(ctx) {
			return nil, err
		}
		live = nil
	}
}

// takesAll reports whether every field of an object is taken over without asking
// who owns it.
func (n note) takesAll(id sources.ID) bool {
	if n.directives.apply == applyMerge || n.conflicts.Default == environment.ConflictYield || n.conflicts.Default == environment.ConflictFail {
		return false
	}
	return !slices.ContainsFunc(n.conflicts.Rules, func(r environment.ConflictRule) bool {
		return r.Mode != environment.ConflictTake && reconciler.Matches(r.Match, id, "", "")
	})
}

// mode is what becomes of a field that another manager owns.
func (n note) mode(id sources.ID, path, manager string) environment.ConflictMode {
	for _, r := range n.conflicts.Rules {
		if reconciler.Matches(r.Match, id, path, manager) {
			return r.Mode
		}
	}
	switch {
	case n.directives.apply == applyMerge:
		return environment.ConflictYield
	case n.conflicts.Default == "":
		return environment.ConflictTake
	}
	return n.conflicts.Default
}

// decide goes through the fields of a conflict. Those that are to fail are the
// error; ours own labels and annotation are never left to others.
func (n note) decide(id sources.ID, refusal error) (yield []string, failure error) {
	var status apierrors.APIStatus
	status, _ = refusal.(apierrors.APIStatus)
	if status == nil || status.Status().Details == nil {
		return nil, refusal
	}
	var refused []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict || strings.Contains(cause.Field, "holdfast.dev/") || strings.Contains(cause.Field, kubelive.LabelPartOf) {
			continue
		}
		manager := conflictManager(cause.Message)
		switch n.mode(id, cause.Field, manager) {
		case environment.ConflictYield:
			yield = append(yield, cause.Field)
		case environment.ConflictFail:
			refused = append(refused, fmt.Sprintf("%s by %s", cause.Field, manager))
		}
	}
	if len(refused) > 0 {
		return nil, sources.Problem{
			Message: "fields are owned by others: " + strings.Join(refused, ", "),
			Hint:    "take them out of git, or change the environment's conflicts from fail to take or yield",
		}
	}
	return yield, nil
}

// conflictManager is the manager that a cause names: conflict with "name" ….
func conflictManager(message string) string {
	_, rest, _ := strings.Cut(message, `"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}
