package sources

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ID identifies one thing in a target. For a Kubernetes object it is the group,
// kind, namespace and name; the version is no part of the identity.
type ID struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is the form people read: "Deployment/web/api", "Namespace/web" and,
// outside the core and apps groups, "Role.rbac.authorization.k8s.io/web/admin".
func (id ID) String() string {
	s := id.GroupKind()
	if id.Group == "apps" {
		s = id.Kind
	}
	if id.Namespace != "" {
		s += "/" + id.Namespace
	}
	return s + "/" + id.Name
}

// appsKinds are the kinds of the apps group, whose ids say no group.
var appsKinds = []string{"ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"}

// ParseID reads what String wrote.
func ParseID(text string) (ID, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return ID{}, fmt.Errorf("%q names no object; write Kind/namespace/name, Kind/name, or Kind.group/namespace/name", text)
	}
	id := ID{Name: parts[len(parts)-1]}
	if len(parts) == 3 {
		id.Namespace = parts[1]
	}
	id.Kind, id.Group, _ = strings.Cut(parts[0], ".")
	if id.Group == "" && slices.Contains(appsKinds, id.Kind) {
		id.Group = "apps"
	}
	return id, nil
}

// GroupKind is "Kind.group", or "Kind" in the core group.
func (id ID) GroupKind() string {
	if id.Group == "" {
		return id.Kind
	}
	return id.Kind + "." + id.Group
}

// Compare orders ids by group, kind, namespace and name.
func (id ID) Compare(other ID) int {
	return cmp.Or(
		cmp.Compare(id.Group, other.Group),
		cmp.Compare(id.Kind, other.Kind),
		cmp.Compare(id.Namespace, other.Namespace),
		cmp.Compare(id.Name, other.Name),
	)
}

// Origin is where an item was written down.
type Origin struct {
	// File is the path in the snapshot.
	File string `json:"file,omitempty"`
	// Line counts from 1; 0 when it cannot be known, as behind kustomize.
	Line int `json:"line,omitempty"`
	// Layer says what rendered it when not a plain file: "kustomize".
	Layer string `json:"layer,omitempty"`
}

// String is "file:line", or "file" without a line.
func (o Origin) String() string {
	if o.Line <= 0 {
		return o.File
	}
	return o.File + ":" + strconv.Itoa(o.Line)
}

// Item is one desired thing. Items are values: nobody changes one after it was
// made, and Body stays encoded because a decoded object costs ten times its
// bytes.
type Item struct {
	ID ID
	// Version is the API version without the group, such as "v1".
	Version string
	Origin  Origin
	// Digest is the SHA-256 of Body in hex, by which two revisions of the item
	// are told apart. Never print that of a sensitive item: it confirms guesses.
	Digest string
	// Body is compact JSON with sorted keys, without status and without the
	// metadata that only a server sets.
	Body []byte
	// Sensitive means that its values must not reach any output.
	Sensitive bool
}

// NewItem makes an item and computes its digest.
func NewItem(id ID, version string, origin Origin, body []byte, sensitive bool) Item {
	sum := sha256.Sum256(body)
	return Item{
		ID: id, Version: version, Origin: origin,
		Digest: hex.EncodeToString(sum[:]), Body: body, Sensitive: sensitive,
	}
}

// APIVersion is "group/version", or "version" in the core group.
func (i Item) APIVersion() string {
	if i.ID.Group == "" {
		return i.Version
	}
	return i.ID.Group + "/" + i.Version
}
