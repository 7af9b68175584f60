package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// The resource that rights over environments are granted on. No server has it:
// roles may name what does not exist.
const (
	AccessGroup    = "holdfast.dev"
	AccessResource = "environments"
)

// The bounds of what is asked of a cluster about callers.
const (
	accessTimeout = 5 * time.Second
	accessAtOnce  = 8
)

// AccessOptions are what Access needs.
type AccessOptions struct {
	// Config is a cluster's, with the right to create TokenReviews and
	// SubjectAccessReviews.
	Config *rest.Config
	// Audience is whom tokens have to be meant for.
	Audience string
	// Version is ours.
	Version string
}

// User is who holds a token, as the cluster says.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

// Access asks a cluster who somebody is, and what that one may do. Create it with
// OpenAccess.
type Access struct {
	objects  dynamic.Interface
	audience string
	slots    chan struct{}
}

// OpenAccess makes the client; it sends nothing.
func OpenAccess(o AccessOptions) (*Access, error) {
	if o.Audience == "" {
		return nil, errors.New("tokens of a cluster need an audience")
	}
	config := rest.CopyConfig(o.Config)
	config.QPS = -1
	config.UserAgent = "holdfast/" + o.Version
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Access{objects: objects, audience: o.Audience, slots: make(chan struct{}, accessAtOnce)}, nil
}

// Holder is who holds a token; false says that the cluster does not know it, or
// that it is meant for others.
func (a *Access) Holder(ctx context.Context, token string) (User, bool, error) {
	review := authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: token, Audiences: []string{a.audience}}}
	err := a.ask(ctx, schema.GroupVersionResource{Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews"}, "TokenReview", &review)
	if err != nil {
		return User{}, false, fmt.Errorf("review a token: %w", err)
	}
	// An authenticator that knows no audiences names none, and its tokens are for the
	// API server.
	s := review.Status
	if !s.Authenticated || s.User.Username == "" || !slices.Contains(s.Audiences, a.audience) {
		return User{}, false, nil
	}
	u := User{Name: s.User.Username, UID: s.User.UID, Groups: s.User.Groups}
	for key, values := range s.User.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = values
	}
	return u, true, nil
}

// May reports whether somebody has the right to a verb on an environment, or on
// all, also those to come, when it is empty.
func (a *Access) May(ctx context.Context, u User, verb, environment string) (bool, error) {
	review := authorization.SubjectAccessReview{Spec: authorization.SubjectAccessReviewSpec{
		User: u.Name, UID: u.UID, Groups: u.Groups,
		ResourceAttributes: &authorization.ResourceAttributes{Group: AccessGroup, Version: "*", Resource: AccessResource, Verb: verb, Name: environment},
	}}
	for key, values := range u.Extra {
		if review.Spec.Extra == nil {
			review.Spec.Extra = map[string]authorization.ExtraValue{}
		}
		review.Spec.Extra[key] = values
	}
	err := a.ask(ctx, schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"}, "SubjectAccessReview", &review)
	if err != nil {
		return false, fmt.Errorf("review the access of %s: %w", u.Name, err)
	}
	return review.Status.Allowed && !review.Status.Denied, nil
}

// ask sends a review, and reads the answer into it. Few are under way at a time.
func (a *Access) ask(ctx context.Context, r schema.GroupVersionResource, kind string, review any) error {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(review)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(r.GroupVersion().WithKind(kind))
	answer, err := a.objects.Resource(r).Create(ctx, u, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(answer.Object, review)
}
