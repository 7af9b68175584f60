package substitute

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Annotation on an object, with the value Disabled, keeps its text as it is:
// for scripts and templates of others that are full of ${.
const (
	Annotation = "holdfast.dev/substitute"
	Disabled   = "disabled"
)

// maxBody bounds what one object may grow to.
const maxBody = 4 << 20

// Item replaces the references in an item's body, and with them in its identity.
// The values of mappings are looked at, never their keys, nor apiVersion and kind.
//
// Secrets are left alone: of an item that is sensitive, which a Secret and all
// that was decrypted is, only the name, the namespace and the labels are looked
// at. So no value gets into a secret, and no ${ in a password is taken for a
// reference or repeated in a problem.
//
// A nil Values replaces nothing. With problems the item is the one that was given.
func Item(item sources.Item, v Values) (sources.Item, sources.Problems) {
	if v == nil || !bytes.Contains(item.Body, []byte("${")) {
		return item, nil
	}
	body, faults := rewrite(item.Body, v, item.Sensitive)
	if len(faults) > 0 {
		for i := range faults {
			faults[i].File, faults[i].Line, faults[i].Object = item.Origin.File, item.Origin.Line, item.ID.String()
		}
		return item, faults
	}
	var head struct {
		Metadata struct{ Name, Namespace string }
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return item, sources.Problems{{File: item.Origin.File, Line: item.Origin.Line, Object: item.ID.String(), Message: "has metadata that cannot be read with its parameters put in"}}
	}
	id := item.ID
	id.Name, id.Namespace = head.Metadata.Name, head.Metadata.Namespace
	if item.ID.Namespace != "" && id.Namespace == "" {
		id.Namespace = item.ID.Namespace // it was defaulted outside the body
	}
	return sources.NewItem(id, item.Version, item.Origin, body, item.Sensitive), nil
}

// Body replaces the references in an object's JSON, which must be compact with
// sorted keys and comes out so again. A body without references comes back as it
// is. The problems name the field, not the object. Secrets (v1) are treated as
// sensitive, see Item.
func Body(body []byte, v Values) ([]byte, sources.Problems) {
	if v == nil || !bytes.Contains(body, []byte("${")) {
		return body, nil
	}
	return rewrite(body, v, false)
}

func rewrite(body []byte, v Values, sensitive bool) ([]byte, sources.Problems) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, sources.Problems{{Message: "is no JSON object, so that no parameter can be put in"}}
	}
	w := &rewriter{values: v}
	sensitive = sensitive || object["kind"] == "Secret" && object["apiVersion"] == "v1"
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	if annotations[Annotation] == Disabled {
		return body, nil
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		switch {
		case key == "apiVersion" || key == "kind":
		case key == "metadata":
			w.metadata(metadata, sensitive)
		case !sensitive:
			object[key] = w.value(object[key], key, false)
		}
	}
	if len(w.problems) > 0 {
		return nil, w.problems
	}
	out, err := encode(object)
	if err == nil && len(out) > maxBody {
		err = fmt.Errorf("grows over %d bytes when its parameters are put in", maxBody)
	}
	if err != nil {
		return nil, sources.Problems{{Message: err.Error()}}
	}
	return out, nil
}

func encode(object map[string]any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(object); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

type rewriter struct {
	values   Values
	grown    int
	problems sources.Problems
}

// metadata holds nothing but text, whatever type a value has.
func (w *rewriter) metadata(metadata map[string]any, sensitive bool) {
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if !sensitive || key == "name" || key == "namespace" || key == "labels" {
			metadata[key] = w.value(metadata[key], "metadata."+key, true)
		}
	}
}

func (w *rewriter) value(value any, path string, text bool) any {
	switch x := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(x)) {
			x[key] = w.value(x[key], path+step(key), text)
		}
	case []any:
		for i := range x {
			x[i] = w.value(x[i], path+"["+strconv.Itoa(i)+"]", text)
		}
	case string:
		return w.scalar(x, path, text)
	}
	return value
}

// step is a key behind a path.
func step(key string) string {
	if strings.ContainsAny(key, "./[]") {
		return "[" + key + "]"
	}
	return "." + key
}

func (w *rewriter) scalar(s, path string, text bool) any {
	value, faults := w.values.Text(s)
	if value == Unknown {
		faults = append(faults, Fault{Message: "refers to a parameter whose value is not known"})
	}
	if len(faults) == 0 && text {
		t, ok := AsText(value)
		if !ok {
			faults = append(faults, Fault{Message: "is text, and a list stands for it"})
		}
		value = t
	}
	if t, ok := value.(string); ok && len(faults) == 0 {
		if w.grown += len(t) - len(s); w.grown > maxBody {
			faults = append(faults, Fault{Message: fmt.Sprintf("grows over %d bytes when its parameters are put in", maxBody)})
			w.values = Values{} // no more of it
		}
	}
	for _, f := range faults {
		w.problems = append(w.problems, sources.Problem{Message: path + ": " + f.Message, Hint: f.Hint})
	}
	return value
}
