package kube

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

const (
	// surveyEvery is how often an environment is looked through for what others
	// added, where that is asked for. Fields that are added to objects of ours are
	// noticed at once; objects beside them only so.
	surveyEvery = 10 * time.Minute
	// surveyPace bounds the requests of a look.
	surveyPace = 200 * time.Millisecond
	// maxForeign bounds what is told of one environment.
	maxForeign = 500
)

// question is what is asked of one environment.
type question struct {
	extra, unmanaged bool
	resources        map[schema.GroupKind]kubelive.Resource
	namespaces       []string
	// bodies are what git says of the objects, where it is asked what others added to
	// them; sensitive those of which no value may be shown.
	bodies    map[sources.ID][]byte
	sensitive map[sources.ID]bool
	// due is when it is looked through next.
	due time.Time
}

func (q question) sameAs(o question) bool {
	return q.extra == o.extra && q.unmanaged == o.unmanaged && slices.Equal(q.namespaces, o.namespaces) && maps.Equal(q.resources, o.resources)
}

// surveys are the environments that want to know what others add.
type surveys struct {
	mu        sync.Mutex
	questions map[string]question
	// hints are objects of ours to which something was added, or taken from.
	hints map[sources.ID]string
	wake  chan struct{}
}

func newSurveys() *surveys {
	return &surveys{questions: map[string]question{}, hints: map[sources.ID]string{}, wake: make(chan struct{}, 1)}
}

func (s *surveys) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// hint notes that somebody changed what is added to an object.
func (s *surveys) hint(h kubelive.Hint) {
	s.mu.Lock()
	s.hints[h.Object] = h.Environment
	s.mu.Unlock()
	s.signal()
}

// noteSurvey remembers what an environment wants to know. What has been asked for
// before is due at once when it is another question, and otherwise in its time.
func (t *Target) noteSurvey(want []sources.Item, scope reconciler.Scope, resources map[schema.GroupKind]kubelive.Resource) {
	if scope.Partial || scope.Preview {
		return
	}
	s := t.surveys
	s.mu.Lock()
	old, asked := s.questions[scope.Environment]
	s.mu.Unlock()
	if !asked && !scope.ExtraFields && !scope.Unmanaged {
		return
	}
	q := question{extra: scope.ExtraFields, unmanaged: scope.Unmanaged, resources: maps.Clone(resources), bodies: map[sources.ID][]byte{}, sensitive: map[sources.ID]bool{}}
	for _, item := range want {
		if item.ID.Namespace != "" && !slices.Contains(q.namespaces, item.ID.Namespace) {
			q.namespaces = append(q.namespaces, item.ID.Namespace)
		}
		if item.Sensitive {
			q.sensitive[item.ID] = true
		}
		if q.extra {
			q.bodies[item.ID] = item.Body
		}
	}
	slices.Sort(q.namespaces)
	q.due = old.due
	if !asked || !q.sameAs(old) {
		q.due = time.Now()
	}
	t.cluster.Index.WantAdditions(scope.Environment, q.extra)
	s.mu.Lock()
	s.questions[scope.Environment] = q
	s.mu.Unlock()
	s.signal()
}

// Survey implements reconciler.Surveyor.
func (t *Target) Survey(ctx context.Context, found func(reconciler.Survey)) error {
	for ctx.Err() == nil {
		hints, due, next := t.surveys.take(time.Now())
		for id, environment := range hints {
			t.surveyOne(ctx, environment, id, found)
		}
		for _, environment := range due {
			t.surveyAll(ctx, environment, found)
		}
		if len(hints)+len(due) > 0 {
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-t.surveys.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// take is what is to be done now, and how long there is nothing after that.
func (s *surveys) take(now time.Time) (hints map[sources.ID]string, due []string, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hints, s.hints = s.hints, map[sources.ID]string{}
	next = surveyEvery
	for environment, q := range s.questions {
		if !q.due.After(now) {
			due = append(due, environment)
			continue
		}
		next = min(next, q.due.Sub(now))
	}
	slices.Sort(due)
	return hints, due, next
}

func (s *surveys) question(environment string) (question, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.questions[environment]
	return q, ok
}

// looked sets when an environment is due again; who wants nothing any more is
// forgotten.
func (s *surveys) looked(environment string, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.questions[environment]
	switch {
	case !ok || q.due.After(began): // another question came meanwhile
	case !q.extra && !q.unmanaged:
		delete(s.questions, environment)
	default:
		q.due = time.Now().Add(surveyEvery)
		s.questions[environment] = q
	}
}

// surveyOne looks at one object to which something was added.
func (t *Target) surveyOne(ctx context.Context, environment string, id sources.ID, found func(reconciler.Survey)) {
	q, ok := t.surveys.question(environment)
	r, served := q.resources[kubelive.GroupKind(id)]
	if !ok || !q.extra || !served {
		return
	}
	changes, err := t.additions(ctx, environment, id, r, q)
	if err != nil && !apierrors.IsNotFound(err) {
		t.tellOnce("what others add to "+id.String(), err)
		return // the next look through everything finds it
	}
	found(reconciler.Survey{Environment: environment, Found: []reconciler.Foreign{{Object: id, Class: drift.ExtraField, Changes: changes}}})
}

// additions reads an object and gives what others added to it.
func (t *Target) additions(ctx context.Context, environment string, id sources.ID, r kubelive.Resource, q question) ([]drift.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
	defer cancel()
	live, err := t.cluster.Get(ctx, r, id)
	if err != nil {
		return nil, err
	}
	git := &unstructured.Unstructured{} // whose numbers are as a server's
	if body := q.bodies[id]; len(body) > 0 {
		if err := git.UnmarshalJSON(body); err != nil {
			return nil, err
		}
	}
	secret := q.sensitive[id] || id.Group == "" && id.Kind == "Secret"
	var out []drift.Change
	for _, a := range kubelive.Additions(live, t.owner(environment)) {
		value, there := a.Value(live.Object)
		// It has gone since, by a hand that says nothing; or it is git's, and was taken
		// over by whoever changed it: that is drift of another class.
		if !there || a.In(git.Object) {
			continue
		}
		out = append(out, drift.Change{
			Path: a.Path, Desired: drift.Absent(), Live: drift.NewValue(value, secret || strings.Contains(a.Path, "last-applied-configuration")),
			Manager: a.Manager, Operation: a.Operation, Time: a.Time,
		})
	}
	return out, nil
}

// surveyAll looks through an environment: the metadata of its kinds in its
// namespaces, and in full only what something was added to.
func (t *Target) surveyAll(ctx context.Context, environment string, found func(reconciler.Survey)) {
	q, ok := t.surveys.question(environment)
	if !ok {
		return
	}
	began := time.Now()
	defer t.surveys.looked(environment, began)
	look := &survey{t: t, owner: t.owner(environment), q: q}
	err := look.all(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		// Nothing is concluded from what could not be read.
		t.tellOnce("what others add in "+environment, err)
		found(reconciler.Survey{Environment: environment, Found: look.found})
	default:
		t.tellOnce("what others add in "+environment, nil)
		found(reconciler.Survey{Environment: environment, Found: look.found, Complete: true})
	}
}

// survey is one look through an environment.
type survey struct {
	t     *Target
	owner kubelive.Owner
	q     question
	found []reconciler.Foreign
}

func (s *survey) all(ctx context.Context) error {
	var failed error
	for _, gk := range slices.SortedFunc(maps.Keys(s.q.resources), func(a, b schema.GroupKind) int { return strings.Compare(a.String(), b.String()) }) {
		r := s.q.resources[gk]
		spaces, selector := s.q.namespaces, ""
		switch {
		case !s.q.extra && !s.q.unmanaged:
			continue
		case !r.Namespaced:
			// Outside namespaces nothing says whose a stranger's object would be.
			spaces, selector = []string{""}, kubelive.LabelEnvironment+"="+s.owner.Environment
		case !s.q.unmanaged:
			selector = kubelive.LabelEnvironment + "=" + s.owner.Environment
		}
		for _, namespace := range spaces {
			if err := s.kind(ctx, gk, r, namespace, selector); err != nil {
				failed = err
			}
		}
	}
	return failed
}

func (s *survey) kind(ctx context.Context, gk schema.GroupKind, r kubelive.Resource, namespace, selector string) error {
	if pause(ctx, surveyPace); ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var added []sources.ID
	err := s.t.cluster.ListMetadata(ctx, r, namespace, selector, func(m *metav1.PartialObjectMetadata) {
		id := sources.ID{Group: gk.Group, Kind: gk.Kind, Namespace: m.Namespace, Name: m.Name}
		switch {
		case kubelive.Ours(m, s.owner):
			if s.q.extra && len(kubelive.Additions(m, s.owner)) > 0 {
				added = append(added, id)
			}
		case s.q.unmanaged && r.Namespaced:
			s.stranger(id, m)
		}
	})
	if err != nil {
		return err
	}
	for _, id := range added {
		if len(s.found) >= maxForeign {
			break
		}
		changes, err := s.t.additions(ctx, s.owner.Environment, id, r, s.q)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return err
		case len(changes) > 0:
			s.found = append(s.found, reconciler.Foreign{Object: id, Class: drift.ExtraField, Changes: changes})
		}
	}
	return nil
}

// stranger notes an object that belongs to nobody.
func (s *survey) stranger(id sources.ID, m *metav1.PartialObjectMetadata) {
	if len(s.found) >= maxForeign || belongs(id, m, s.owner) {
		return
	}
	f := reconciler.Foreign{Object: id, Class: drift.Unmanaged, Changes: []drift.Change{{
		Desired: drift.Absent(), Live: drift.NewValue("present", false), Manager: drift.Unknown, Time: m.CreationTimestamp.Time,
	}}}
	if len(m.ManagedFields) > 0 && m.ManagedFields[0].Manager != "" {
		f.Changes[0].Manager, f.Changes[0].Operation = m.ManagedFields[0].Manager, string(m.ManagedFields[0].Operation)
	}
	if m.Labels[kubelive.LabelEnvironment] == s.owner.Environment {
		f.Note = "stays: it carries this environment's labels, and was not applied by it, like a copy"
	}
	s.found = append(s.found, f)
}

// belongs reports whether an object is somebody's: a controller's, another
// environment's or ApplySet's, Helm's, Holdfast's own, or what every namespace has.
func belongs(id sources.ID, m *metav1.PartialObjectMetadata, owner kubelive.Owner) bool {
	if metav1.GetControllerOf(m) != nil || m.DeletionTimestamp != nil {
		return true
	}
	labels := m.Labels
	if e := labels[kubelive.LabelEnvironment]; e != "" && e != owner.Environment {
		return true
	}
	if p := labels[kubelive.LabelPartOf]; p != "" && p != owner.ID {
		return true
	}
	if _, is := labels[kubelive.LabelApplySetID]; is {
		return true
	}
	if _, is := labels[labelState]; is {
		return true
	}
	return madeBySystem(id, m)
}

// madeBySystem reports whether the cluster or Helm keeps an object for itself.
func madeBySystem(id sources.ID, m *metav1.PartialObjectMetadata) bool {
	switch id.GroupKind() {
	case "ConfigMap":
		return id.Name == "kube-root-ca.crt" || strings.HasSuffix(id.Name, "openshift-service-ca.crt")
	case "ServiceAccount":
		return id.Name == metav1.NamespaceDefault
	case "Secret":
		_, token := m.Annotations["kubernetes.io/service-account.name"]
		return token || strings.HasPrefix(id.Name, "sh.helm.release.v1.")
	case "Service":
		return id.Namespace == metav1.NamespaceDefault && id.Name == "kubernetes"
	}
	switch id.Kind {
	case "Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision":
		return true
	}
	return false
}
