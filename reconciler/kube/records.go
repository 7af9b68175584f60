package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/sources"
)

// recordsKey is the entry of a parent object that holds its records as JSON.
const recordsKey = "once.json"

// records are what was done once and must not be done again, kept in the parent
// object.
type records struct {
	// Jobs are the digests of Jobs that finished, by object.
	Jobs map[string]string `json:"jobs,omitempty"`
	// Hooks are the last runs of hooks, by object.
	Hooks map[string]hookRecord `json:"hooks,omitempty"`
}

// hookRecord is one run of a hook.
type hookRecord struct {
	Digest   string    `json:"digest"`
	Revision string    `json:"revision,omitempty"`
	State    hookState `json:"state"`
	Message  string    `json:"message,omitempty"`
	At       time.Time `json:"at"`
}

// hookState is how a hook's last run went.
type hookState string

const (
	hookDue       hookState = "due"
	hookSucceeded hookState = "succeeded"
	hookFailed    hookState = "failed"
)

func (r records) clone() records {
	return records{Jobs: maps.Clone(r.Jobs), Hooks: maps.Clone(r.Hooks)}
}

// readRecords takes the records of a parent object in. Records that cannot be
// read count as none: a Job may then run once more.
func readRecords(object *unstructured.Unstructured) (r records) {
	text, _, _ := unstructured.NestedString(object.Object, "data", recordsKey)
	if text == "" || json.Unmarshal([]byte(text), &r) != nil {
		return records{}
	}
	return r
}

// isFinished reports whether a Job has finished with this content.
func (t *Target) isFinished(environment string, id sources.ID, digest string) bool {
	p := t.parent(environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records.Jobs[id.String()] == digest && digest != ""
}

// jobFinished notes that a Job has finished; it is written behind.
func (t *Target) jobFinished(environment string, id sources.ID, applied string) {
	digest, _, _ := strings.Cut(applied, yieldMark)
	p := t.parent(environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	if digest == "" || p.records.Jobs[id.String()] == digest {
		return
	}
	if p.records.Jobs == nil {
		p.records.Jobs = map[string]string{}
	}
	p.records.Jobs[id.String()] = digest
	p.recordsDirty = true
}

func (t *Target) hookRecord(environment string, id sources.ID) hookRecord {
	p := t.parent(environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records.Hooks[id.String()]
}

// noteHook writes how a hook went, before anything that follows from it is done.
func (t *Target) noteHook(ctx context.Context, environment string, id sources.ID, r hookRecord) error {
	r.At = time.Now().UTC().Truncate(time.Second)
	if len(r.Message) > 1000 {
		r.Message = r.Message[:1000]
	}
	p := t.parent(environment)
	p.mu.Lock()
	if p.records.Hooks == nil {
		p.records.Hooks = map[string]hookRecord{}
	}
	p.records.Hooks[id.String()] = r
	p.recordsDirty = true
	p.mu.Unlock()
	return t.saveRecords(ctx, environment)
}

// Rerun forgets that Jobs have finished and hooks have run, so that the next run
// runs them again: those of one object, or with a zero id all of the environment.
func (t *Target) Rerun(ctx context.Context, environment string, id sources.ID) error {
	if _, err := t.loadRecords(ctx, environment); err != nil {
		return err
	}
	p := t.parent(environment)
	p.mu.Lock()
	if id == (sources.ID{}) {
		p.records = records{}
	} else {
		delete(p.records.Jobs, id.String())
		delete(p.records.Hooks, id.String())
	}
	p.recordsDirty = true
	p.mu.Unlock()
	t.forgetSettled(environment)
	return t.saveRecords(ctx, environment)
}

// loadRecords reads the records if the parent was not read yet.
func (t *Target) loadRecords(ctx context.Context, environment string) (*parent, error) {
	p := t.parent(environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loaded {
		return p, nil
	}
	object, err := t.readState(ctx, parentName(environment))
	if err != nil || object == nil {
		return p, err
	}
	p.records = readRecords(object)
	return p, nil
}

// saveRecords writes what changed of the records. A parent that is not there
// keeps them for the next time: it must not be made by this.
func (t *Target) saveRecords(ctx context.Context, environment string) error {
	p := t.parent(environment)
	p.mu.Lock()
	dirty, current := p.recordsDirty, p.records.clone()
	p.recordsDirty = false
	p.mu.Unlock()
	if !dirty {
		return nil
	}
	err := t.writeRecords(ctx, environment, current)
	if err != nil {
		p.mu.Lock()
		p.recordsDirty = true
		p.mu.Unlock()
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (t *Target) writeRecords(ctx context.Context, environment string, r records) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the environment's records: %w", err)
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]any{recordsKey: string(text)}})
	if err != nil {
		return fmt.Errorf("write the environment's records: %w", err)
	}
	_, err = t.stateAPI().Patch(ctx, parentName(environment), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager + "-records"})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the environment's records: %w", err)
	}
	return err
}

// stateAPI writes to the state namespace under the daemon's own identity, while
// it has the lease.
func (t *Target) stateAPI() objectAPI {
	api := t.cluster.Objects.Resource(configMaps).Namespace(t.opts.StateNamespace)
	if t.lease == nil {
		return api
	}
	return leased{api, t.lease}
}

// recordsEvery is how often finished Jobs are written down.
const recordsEvery = 2 * time.Second

// keepRecords writes records behind until ctx ends, and once more then.
func (t *Target) keepRecords(ctx context.Context) {
	tick := time.NewTicker(recordsEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		for _, name := range t.unsaved() {
			t.tellOnce("records of environment "+name, t.saveRecords(ctx, name))
		}
		cancel()
	}
}

func (t *Target) unsaved() []string {
	t.mu.Lock()
	parents := maps.Clone(t.parents)
	t.mu.Unlock()
	var out []string
	for name, p := range parents {
		p.mu.Lock()
		if p.recordsDirty && p.loaded {
			out = append(out, name)
		}
		p.mu.Unlock()
	}
	return out
}

// dropRecords forgets the records of what is not wanted any more.
func (t *Target) dropRecords(environment string, wanted map[string]bool) {
	p := t.parent(environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.records.Jobs) + len(p.records.Hooks)
	maps.DeleteFunc(p.records.Jobs, func(id, _ string) bool { return !wanted[id] })
	maps.DeleteFunc(p.records.Hooks, func(id string, _ hookRecord) bool { return !wanted[id] })
	p.recordsDirty = p.recordsDirty || before != len(p.records.Jobs)+len(p.records.Hooks)
}

func isJob(id sources.ID) bool { return id.Group == "batch" && id.Kind == "Job" }

// isFinishedJob reports whether a live object is a Job that has ended, well or
// not.
func isFinishedJob(live *unstructured.Unstructured) bool {
	if live == nil || live.GetKind() != "Job" || live.GroupVersionKind().Group != "batch" {
		return false
	}
	_, _, ended := jobEnd(live)
	return ended
}

// jobEnd says how a Job ended.
func jobEnd(job *unstructured.Unstructured) (succeeded bool, why string, ended bool) {
	for _, c := range conditionsOf(job) {
		if c.Status == "True" && (c.Type == "Complete" || c.Type == "Failed") {
			return c.Type == "Complete", strings.Trim(c.Reason+": "+c.Message, ": "), true
		}
	}
	return false, "", false
}

// statusCondition is one of an object's status.conditions.
type statusCondition struct{ Type, Status, Reason, Message string }

func conditionsOf(u *unstructured.Unstructured) []statusCondition {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	var out []statusCondition
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			continue
		}
		text := func(key string) string { s, _ := m[key].(string); return s }
		out = append(out, statusCondition{text("type"), text("status"), text("reason"), text("message")})
	}
	return out
}
