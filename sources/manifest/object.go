package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unique"

	"github.com/holdfast-gitops/holdfast/sources"
)

// serverMetadata is what only a server writes below metadata.
var serverMetadata = []string{
	"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink",
}

// document takes one decoded document: nothing, an object, or a list of them.
func (p *parser) document(value any, doc document) {
	if value == nil {
		return
	}
	b := &budget{bytes: p.o.MaxObjectBytes, depth: p.o.MaxDepth}
	if doc.entry == 0 {
		// A List may hold as many bytes as its file, each entry as an object.
		b.bytes = max(b.bytes, int(p.o.MaxFileBytes))
	}
	value, err := b.plain(value, 0)
	if err != nil {
		p.at(doc, "", err.Error(), "")
		return
	}
	object, ok := value.(map[string]any)
	switch {
	case !ok:
		p.at(doc, "", "is "+typeName(value)+", not an object", "a manifest is a mapping with apiVersion, kind and metadata")
	case strings.HasPrefix(text(object["apiVersion"]), ownGroup):
	case isList(object):
		p.list(object, doc)
	default:
		p.object(object, doc)
	}
}

// isList says whether an object is a list of objects: a List, or a typed one
// such as ConfigMapList. A kind that ends in List without items is an object.
func isList(object map[string]any) bool {
	_, items := object["items"]
	return items && strings.HasSuffix(text(object["kind"]), "List")
}

// list reads the entries of a list. Entries of a typed list may leave out what
// the list's own kind says.
func (p *parser) list(list map[string]any, doc document) {
	entries, ok := list["items"].([]any)
	if !ok {
		if list["items"] != nil {
			p.at(doc, "", "items must be a list, and is "+typeName(list["items"]), "", "items")
		}
		return
	}
	if doc.entry > 0 {
		p.at(doc, "", "is a List inside a List", "put the entries into one list")
		return
	}
	var lines []int
	if doc.text != nil {
		lines = entryLines(doc.text)
	}
	kind := strings.TrimSuffix(text(list["kind"]), "List")
	for i, entry := range entries {
		at := doc
		at.entry = i + 1
		if i < len(lines) {
			at.line = doc.from + lines[i] - 1
		}
		if i > 0 && !p.counted(at.line) {
			return
		}
		if object, ok := entry.(map[string]any); ok && kind != "" && object["kind"] == nil && object["apiVersion"] == nil {
			object["kind"], object["apiVersion"] = kind, list["apiVersion"]
		}
		if entry == nil {
			p.at(at, "", "is empty, not an object", "", at.path()...)
			continue
		}
		p.document(entry, at)
	}
}

// path leads to the document inside its text.
func (d document) path(more ...string) []string {
	if d.entry == 0 {
		return more
	}
	return append([]string{"items", strconv.Itoa(d.entry - 1)}, more...)
}

// at reports a problem at a field of a document, given by its path.
func (p *parser) at(doc document, object, message, hint string, path ...string) {
	line, column := doc.line, 0
	if len(path) > 0 && doc.text != nil {
		if l, c := find(doc.text, doc.path(path...)...); l > 0 {
			line, column = doc.from+l-1, c
		}
	}
	p.problems = append(p.problems, sources.Problem{
		File: p.file, Line: line, Column: column, Object: object, Message: message, Hint: hint,
	})
}

// object checks one object and makes it an item.
func (p *parser) object(object map[string]any, doc document) {
	c := &checker{p: p, doc: doc, object: object}
	id, version := c.identity()
	c.labels()
	if c.failed {
		return
	}
	if _, encrypted := object["sops"].(map[string]any); encrypted {
		c.fail("is encrypted with SOPS, and is not decrypted here", "name the keys under spec.decryption.sops.keys, or list the file in "+IgnoreFile, "sops")
		return
	}
	secret := id.Group == "" && id.Kind == "Secret"
	if secret {
		c.secret()
	}
	if c.failed {
		return
	}
	clean(object)
	body, err := encode(object)
	if err != nil {
		c.fail(err.Error(), "")
		return
	}
	if len(body) > p.o.MaxObjectBytes {
		c.fail(tooLarge(int64(len(body)), int64(p.o.MaxObjectBytes)), "an API server stores about 1.5 MiB at most")
		return
	}
	// Many say the same, and nobody is to keep what was read for that.
	for _, text := range []*string{&id.Group, &id.Kind, &id.Namespace, &version} {
		*text = unique.Make(*text).Value()
	}
	origin := sources.Origin{File: p.file, Line: doc.line, Layer: p.layer}
	p.items = append(p.items, sources.NewItem(id, version, origin, body, secret || saysSensitive(id, object)))
}

// saysSensitive reports whether an object of one of Holdfast's own groups says of
// itself that its content is for no output.
func saysSensitive(id sources.ID, object map[string]any) bool {
	spec, _ := object["spec"].(map[string]any)
	sensitive, _ := spec["sensitive"].(bool)
	return sensitive && strings.HasSuffix(id.Group, "."+strings.TrimSuffix(ownGroup, "/"))
}

// clean removes what is not asked for but reported by a server.
func clean(object map[string]any) {
	delete(object, "status")
	metadata, _ := object["metadata"].(map[string]any)
	for _, field := range serverMetadata {
		delete(metadata, field)
	}
	for field, value := range metadata {
		m, isMap := value.(map[string]any)
		if value == nil || isMap && len(m) == 0 {
			delete(metadata, field)
		}
	}
}

// encode is the canonical form of a body.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encode as JSON: %w", err)
	}
	return bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// WithNamespace is the item in another namespace, or in none. Items are values:
// the one given stays as it is.
func WithNamespace(item sources.Item, namespace string) (sources.Item, error) {
	id := item.ID
	id.Namespace = namespace
	return withMetadata(item, id, func(metadata map[string]json.RawMessage) error {
		delete(metadata, "namespace")
		if namespace == "" {
			return nil
		}
		var err error
		metadata["namespace"], err = encode(namespace)
		return err
	})
}

// WithoutAnnotation is the item without an annotation.
func WithoutAnnotation(item sources.Item, key string) (sources.Item, error) {
	return withMetadata(item, item.ID, func(metadata map[string]json.RawMessage) error {
		var all map[string]json.RawMessage
		if metadata["annotations"] == nil {
			return nil
		}
		if err := json.Unmarshal(metadata["annotations"], &all); err != nil {
			return fmt.Errorf("decode metadata.annotations: %w", err)
		}
		delete(all, key)
		delete(metadata, "annotations")
		if len(all) == 0 {
			return nil
		}
		var err error
		metadata["annotations"], err = encode(all)
		return err
	})
}

// WithMetadata is the item with labels and annotations added, over those that it
// has.
func WithMetadata(item sources.Item, labels, annotations map[string]string) (sources.Item, error) {
	return withMetadata(item, item.ID, func(metadata map[string]json.RawMessage) error {
		if err := add(metadata, "labels", labels); err != nil {
			return err
		}
		return add(metadata, "annotations", annotations)
	})
}

func add(metadata map[string]json.RawMessage, field string, more map[string]string) error {
	if len(more) == 0 {
		return nil
	}
	all := map[string]string{}
	if raw := metadata[field]; raw != nil {
		if err := json.Unmarshal(raw, &all); err != nil {
			return fmt.Errorf("decode metadata.%s: %w", field, err)
		}
	}
	for key, value := range more {
		all[key] = value
	}
	var err error
	metadata[field], err = encode(all)
	return err
}

func withMetadata(item sources.Item, id sources.ID, change func(map[string]json.RawMessage) error) (sources.Item, error) {
	var object, metadata map[string]json.RawMessage
	if err := json.Unmarshal(item.Body, &object); err != nil {
		return sources.Item{}, fmt.Errorf("decode %s: %w", item.ID, err)
	}
	if err := json.Unmarshal(object["metadata"], &metadata); err != nil {
		return sources.Item{}, fmt.Errorf("decode metadata of %s: %w", item.ID, err)
	}
	if err := change(metadata); err != nil {
		return sources.Item{}, fmt.Errorf("%s: %w", item.ID, err)
	}
	var err error
	if object["metadata"], err = encode(metadata); err != nil {
		return sources.Item{}, err
	}
	body, err := encode(object)
	if err != nil {
		return sources.Item{}, err
	}
	return sources.NewItem(id, item.Version, item.Origin, body, item.Sensitive), nil
}

// text is a string value, or "".
func text(v any) string {
	s, _ := v.(string)
	return s
}

// typeName says what a value is without saying the value.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "text"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "a mapping"
	}
	return "a number"
}
