package kubelive

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"github.com/holdfast-gitops/holdfast/sources"
)

// The labels and annotations that live objects carry. Those of the ApplySet
// specification (KEP-3659) let kubectl and others see what belongs together.
const (
	// LabelEnvironment names the environment an object belongs to; watches
	// select on its existence.
	LabelEnvironment = "holdfast.dev/environment"
	// LabelPartOf is on members and holds the ApplySet's id.
	LabelPartOf = "applyset.kubernetes.io/part-of"
	// LabelApplySetID is on the parent only.
	LabelApplySetID = "applyset.kubernetes.io/id"
	// AnnotationApplied holds the digest of the desired state that was applied,
	// set by the very request that applied it.
	AnnotationApplied = "holdfast.dev/applied"
	// AnnotationPrune, "disabled", keeps an object that left git.
	AnnotationPrune = "holdfast.dev/prune"
	// AnnotationHoldUntil, a time (RFC 3339), holds an object, or on the parent an
	// environment, without API or token; AnnotationHoldReason may say why.
	AnnotationHoldUntil  = "holdfast.dev/hold-until"
	AnnotationHoldReason = "holdfast.dev/hold-reason"

	// The parent's annotations.
	AnnotationTooling    = "applyset.kubernetes.io/tooling"
	AnnotationKinds      = "applyset.kubernetes.io/contains-group-kinds"
	AnnotationNamespaces = "applyset.kubernetes.io/additional-namespaces"
)

// Owner is who owns an environment's objects in a target.
type Owner struct {
	Environment string
	// ID is the ApplySet id.
	ID string
	// Manager is the field manager. It is one per environment because two
	// applies under one name silently delete each other's keys.
	Manager string
}

// ParentName is the name of an environment's parent object, a ConfigMap.
func ParentName(environment string) string { return "holdfast-" + environment }

// NewOwner derives the identity of an environment whose parent object lives in
// stateNamespace. The id follows KEP-3659: a hash of the parent's name,
// namespace, kind and group.
func NewOwner(environment, stateNamespace string) Owner {
	sum := sha256.Sum256([]byte(ParentName(environment) + "." + stateNamespace + ".ConfigMap."))
	id := "applyset-" + base64.RawURLEncoding.EncodeToString(sum[:]) + "-v1"
	return Owner{Environment: environment, ID: id, Manager: "holdfast:" + id}
}

// AppliedDigest is what AnnotationApplied holds for an item. The digest of a
// sensitive item is keyed, because anybody who may read metadata could otherwise
// confirm a guess of its content.
func (o Owner) AppliedDigest(item sources.Item, key []byte) string {
	text := item.Digest + "\x00" + item.APIVersion() + "\x00" + o.ID + "\x00" + o.Environment
	if item.Sensitive {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return "k:" + hex.EncodeToString(mac.Sum(nil)[:16])
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
