package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return d.Decode(into)
}

// bodyOf is what is sent to apply an item: its body with our labels and the
// annotation that says what was applied, so that ownership is atomic with the
// object. UID and version bind the write to the object that was read. Notes are
// keys and values of further annotations.
func bodyOf(item sources.Item, owner kubelive.Owner, digest, uid, version string, notes ...string) ([]byte, error) {
	var object map[string]any
	if err := decode(item.Body, &object); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	metadata, ok := object["metadata"].(map[string]any)
	if !ok {
		return nil, errors.New("decode: no metadata")
	}
	set(metadata, "labels", kubelive.LabelEnvironment, owner.Environment)
	set(metadata, "labels", kubelive.LabelPartOf, owner.ID)
	set(metadata, "annotations", kubelive.AnnotationApplied, digest)
	for i := 0; i+1 < len(notes); i += 2 {
		set(metadata, "annotations", notes[i], notes[i+1])
	}
	if uid != "" {
		metadata["uid"] = uid
	}
	if version != "" {
		metadata["resourceVersion"] = version
	}
	return json.Marshal(object)
}

func set(metadata map[string]any, field, key, value string) {
	m, ok := metadata[field].(map[string]any)
	if !ok {
		m = map[string]any{}
		metadata[field] = m
	}
	m[key] = value
}

// isWrongUID tells the answer to an apply whose UID is not that of the live
// object from a real attempt to change an immutable field.
func isWrongUID(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	for _, cause := range status.Status().Details.Causes {
		if cause.Field == "metadata.uid" {
			return true
		}
	}
	return false
}

// problem ties an error to an object, its file and line, and says what to do
// where that is known. Values of sensitive objects are kept out: the server's
// message about one may quote it.
func problem(item sources.Item, err error) error {
	p := sources.Problem{
		File: item.Origin.File, Line: item.Origin.Line, Object: item.ID.String(), Message: err.Error(),
	}
	var inner sources.Problem
	if errors.As(err, &inner) {
		p.Message, p.Hint = inner.Message, inner.Hint
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		p.Message, p.Hint = explain(item, err, status.Status(), p.Message)
	}
	return p
}

func explain(item sources.Item, err error, s metav1.Status, message string) (text, hint string) {
	switch {
	case isImmutable(err):
		hint = immutableHint
	case s.Code == http.StatusNotFound && strings.HasPrefix(s.Message, `namespaces "`):
		hint = "create the namespace, put it into git, or set createNamespace: true"
	case s.Code == http.StatusForbidden:
		hint = "give the environment's service account the right, or Holdfast's own identity where none is named; or take the object out"
	case rawValue.MatchString(message):
		message = rawValue.ReplaceAllString(message, "$1")
		if strings.Contains(message, "expected string") {
			hint = "put the value in quotes"
		}
	case isStale(err):
		message = "it kept changing while it was being written"
		hint = "it is tried again; what writes it all the time is in its managedFields"
	case s.Code == http.StatusConflict:
		hint = "another manager owns these fields; name it in adoptFrom, or take the fields out of git"
	}
	if item.Sensitive {
		// Whatever the server, a webhook or a policy says may quote the value.
		return fmt.Sprintf("the server refuses it: %s, code %d%s (its message is left out, since it may quote the secret)", s.Reason, s.Code, causes(s)), hint
	}
	return message, hint
}

// rawValue is how the server prints a value of the wrong type.
var rawValue = regexp.MustCompile(`&value\.valueUnstructured\{Value:([^}]*)\}`)

// causes are the fields and kinds of error that a server names, without values.
func causes(s metav1.Status) string {
	if s.Details == nil || len(s.Details.Causes) == 0 {
		return ""
	}
	fields := make([]string, 0, len(s.Details.Causes))
	for _, c := range s.Details.Causes {
		fields = append(fields, c.Field+": "+string(c.Type))
	}
	return ", " + strings.Join(fields, ", ")
}
