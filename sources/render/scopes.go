package render

import (
	"encoding/json"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Scopes tells which kinds live in namespaces.
type Scopes interface {
	// Namespaced says whether a kind's objects live in namespaces, and whether
	// that is known.
	Namespaced(group, kind string) (namespaced, known bool)
}

// BuiltinScopes knows the kinds that Kubernetes 1.37 brings, for use without a
// cluster.
var BuiltinScopes Scopes = builtinScopes{}

type builtinScopes struct{}

type groupKind struct{ group, kind string }

type scope struct{ namespaced, known bool }

// builtinGroups are the groups that an API server serves by itself, with the
// kinds in them that do not live in namespaces.
var builtinGroups = map[string][]string{
	"": {"ComponentStatus", "Namespace", "Node", "PersistentVolume"},
	"admissionregistration.k8s.io": {
		"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
	},
	"apiextensions.k8s.io":         {"CustomResourceDefinition"},
	"apiregistration.k8s.io":       {"APIService"},
	"apps":                         nil,
	"authentication.k8s.io":        {"SelfSubjectReview", "TokenReview"},
	"authorization.k8s.io":         {"SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"},
	"autoscaling":                  nil,
	"batch":                        nil,
	"certificates.k8s.io":          {"CertificateSigningRequest", "ClusterTrustBundle"},
	"coordination.k8s.io":          nil,
	"discovery.k8s.io":             nil,
	"events.k8s.io":                nil,
	"flowcontrol.apiserver.k8s.io": {"FlowSchema", "PriorityLevelConfiguration"},
	"internal.apiserver.k8s.io":    {"StorageVersion"},
	"networking.k8s.io":            {"IPAddress", "IngressClass", "ServiceCIDR"},
	"node.k8s.io":                  {"RuntimeClass"},
	"policy":                       nil,
	"rbac.authorization.k8s.io":    {"ClusterRole", "ClusterRoleBinding"},
	"resource.k8s.io":              {"DeviceClass", "DeviceTaintRule", "ResourceSlice"},
	"scheduling.k8s.io":            {"PriorityClass"},
	"storage.k8s.io":               {"CSIDriver", "CSINode", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"},
	"storagemigration.k8s.io":      {"StorageVersionMigration"},
}

func (builtinScopes) Namespaced(group, kind string) (namespaced, known bool) {
	clusterKinds, known := builtinGroups[group]
	if !known {
		return false, false
	}
	for _, k := range clusterKinds {
		if k == kind {
			return false, true
		}
	}
	return true, true
}

// askedScopes notes what was asked, so that a cached result can be checked
// against what is known of the cluster later.
type askedScopes struct {
	Scopes
	answers map[groupKind]scope
}

func (a *askedScopes) Namespaced(group, kind string) (namespaced, known bool) {
	namespaced, known = a.Scopes.Namespaced(group, kind)
	if a.answers == nil {
		a.answers = map[groupKind]scope{}
	}
	a.answers[groupKind{group, kind}] = scope{namespaced, known}
	return namespaced, known
}

// definedScopes answers for the kinds that the items themselves define: a CRD
// and its objects often come in one commit, before any server knows the kind.
type definedScopes struct {
	defined map[groupKind]bool
	others  Scopes
}

func (d definedScopes) Namespaced(group, kind string) (namespaced, known bool) {
	if namespaced, known := d.defined[groupKind{group, kind}]; known {
		return namespaced, true
	}
	return d.others.Namespaced(group, kind)
}

func scopesOf(items []sources.Item, others Scopes) definedScopes {
	d := definedScopes{defined: map[groupKind]bool{}, others: others}
	for _, i := range items {
		if i.ID.Group != "apiextensions.k8s.io" || i.ID.Kind != "CustomResourceDefinition" {
			continue
		}
		var crd struct {
			Spec struct {
				Group string
				Names struct{ Kind string }
				Scope string
			}
		}
		if json.Unmarshal(i.Body, &crd) != nil || crd.Spec.Names.Kind == "" {
			// A definition of another shape is the server's to refuse.
			continue
		}
		d.defined[groupKind{crd.Spec.Group, crd.Spec.Names.Kind}] = !strings.EqualFold(crd.Spec.Scope, "Cluster")
	}
	return d
}
