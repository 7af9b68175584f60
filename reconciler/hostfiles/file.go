package hostfiles

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os/user"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-gitops/holdfast/sources"
)

// The identity of the one kind that this driver knows.
const (
	Group   = "host.holdfast.dev"
	Version = "v1alpha1"
	Kind    = "File"
)

// AnnotationPrune, "disabled", keeps a file that left git; AnnotationProtected,
// "true", lets it go only when the plan was approved.
const (
	AnnotationPrune     = "holdfast.dev/prune"
	AnnotationProtected = "holdfast.dev/protected"
)

// maxPath bounds a path in bytes, and maxName one step of it, as most file
// systems do.
const (
	maxPath = 1024
	maxName = 255
)

// document is a File as it is written.
type document struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
		Labels      map[string]string `json:"labels"`
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
	} `json:"metadata"`
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Path          string  `json:"path"`
		Mode          string  `json:"mode"`
		Owner         string  `json:"owner"`
		Content       *string `json:"content"`
		ContentBase64 *string `json:"contentBase64"`
		Sensitive     bool    `json:"sensitive"`
	} `json:"spec"`
}

// wanted is a file as it is to be.
type wanted struct {
	item sources.Item
	// path is below the root, with the folder that the namespace is.
	path    string
	content []byte
	mode    fs.FileMode
	// owner is as it was written; uid and gid are -1 where it says nothing.
	owner    string
	uid, gid int
	keep     bool
	guarded  bool
	// digest stands for all of it, and sum for the content alone. Where the item
	// is sensitive, they are keyed, so that they confirm no guess.
	digest, sum string
}

// parse reads an item. Its error is sources.Problems: all that is wrong.
func parse(item sources.Item, key []byte) (wanted, error) {
	w := wanted{item: item, uid: -1, gid: -1}
	if item.ID.Group != Group || item.ID.Kind != Kind || item.Version != Version {
		return w, problem(item, fmt.Sprintf("this target keeps files, and knows no kind %s of %s", item.ID.Kind, item.APIVersion()),
			fmt.Sprintf("write kind %s, apiVersion %s/%s, or name another target", Kind, Group, Version))
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(item.Body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return w, problem(item, "is no File: "+plain(err), "a mode is text such as \"0644\"; docs/hostfiles.md has every field")
	}
	w.item.Sensitive = item.Sensitive || d.Spec.Sensitive
	w.keep = d.Metadata.Annotations[AnnotationPrune] == "disabled"
	w.guarded = d.Metadata.Annotations[AnnotationProtected] == "true"
	var all sources.Problems
	for _, read := range []func(document) error{w.readPath, w.readMode, w.readOwner, w.readContent} {
		if err := read(d); err != nil {
			all = append(all, sources.ProblemsOf(err)...)
		}
	}
	if err := all.Err(); err != nil {
		return w, err
	}
	w.sum = digest(w.item.Sensitive, key, w.content)
	w.digest = digest(w.item.Sensitive, key, fmt.Appendf(nil, "%s\x00%o\x00%s\x00%t%t\x00%s", w.path, w.mode, w.owner, w.keep, w.guarded, w.content))
	return w, nil
}

// goField is what a decoder calls a field, beside its path.
var goField = regexp.MustCompile(`Go struct field [A-Za-z]*\.`)

// plain takes Go's words out of a decoder's error. What it says of values are
// their types, never their content.
func plain(err error) string {
	return strings.TrimPrefix(goField.ReplaceAllString(err.Error(), "field "), "json: ")
}

func problem(item sources.Item, message, hint string) sources.Problem {
	return sources.Problem{File: item.Origin.File, Line: item.Origin.Line, Object: item.ID.String(), Message: message, Hint: hint}
}

func (w *wanted) readPath(d document) error {
	p := d.Spec.Path
	if p == "" {
		p = d.Metadata.Name
	}
	if wrong := badPath(p); wrong != "" {
		return problem(w.item, fmt.Sprintf("spec.path %q %s", p, wrong), "a path begins at the target's directory, as in nginx/site.conf")
	}
	w.path = path.Join(w.item.ID.Namespace, p)
	return nil
}

func badPath(p string) string {
	switch {
	case path.IsAbs(p):
		return "is absolute"
	case !fs.ValidPath(p) || p == ".":
		return "is no path of a file below the directory"
	case len(p) > maxPath:
		return "is too long"
	case strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsPrint(r) || r == '\\' }):
		return "holds characters that are not allowed"
	}
	for i, step := range strings.Split(p, "/") {
		if len(step) > maxName {
			return "has a step that is too long"
		}
		if i == 0 && strings.EqualFold(step, stateDir) {
			return "is where Holdfast keeps its records"
		}
	}
	return ""
}

// readMode takes permissions alone: a repository makes no program that runs as
// somebody else.
func (w *wanted) readMode(d document) error {
	text := d.Spec.Mode
	if text == "" {
		w.mode = 0o644
		if w.item.Sensitive {
			w.mode = 0o600
		}
		return nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 || len(text) < 3 {
		return problem(w.item, fmt.Sprintf("spec.mode %q is no mode", text), `write permissions in octal and quotes, such as "0644"`)
	}
	w.mode = fs.FileMode(n)
	return nil
}

func (w *wanted) readOwner(d document) error {
	if d.Spec.Owner == "" {
		return nil
	}
	w.owner = d.Spec.Owner
	name, group, hasGroup := strings.Cut(w.owner, ":")
	var err error
	if name != "" {
		if w.uid, err = idOf(name, func(n string) (string, error) {
			u, err := user.Lookup(n)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}); err != nil {
			return problem(w.item, fmt.Sprintf("spec.owner: this host has no user %q", name), "name a user of the host, or a number")
		}
	}
	if group != "" {
		if w.gid, err = idOf(group, func(n string) (string, error) {
			g, err := user.LookupGroup(n)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}); err != nil {
			return problem(w.item, fmt.Sprintf("spec.owner: this host has no group %q", group), "name a group of the host, or a number")
		}
	}
	if name == "" && group == "" || hasGroup && group == "" {
		return problem(w.item, fmt.Sprintf("spec.owner %q names nobody", w.owner), "write user, user:group or :group")
	}
	return nil
}

// idOf is a number, or what a name stands for.
func idOf(name string, look func(string) (string, error)) (int, error) {
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	text, err := look(name)
	if err != nil {
		return -1, err
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err
}

func (w *wanted) readContent(d document) error {
	switch {
	case d.Spec.Content != nil && d.Spec.ContentBase64 != nil:
		return problem(w.item, "has both spec.content and spec.contentBase64", "keep one of them")
	case d.Spec.Content != nil:
		w.content = []byte(*d.Spec.Content)
	case d.Spec.ContentBase64 != nil:
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(*d.Spec.ContentBase64), ""))
		if err != nil {
			return problem(w.item, "spec.contentBase64 is not base64", "plain text belongs under spec.content")
		}
		w.content = data
	default:
		return problem(w.item, "has no spec.content", `write content: "" for an empty file`)
	}
	return nil
}

// digest is the SHA-256 of data in hex, keyed where it must confirm no guess.
func digest(sensitive bool, key, data []byte) string {
	if sensitive {
		h := hmac.New(sha256.New, key)
		h.Write(data)
		return "keyed:" + hex.EncodeToString(h.Sum(nil))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
