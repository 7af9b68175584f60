// Package substitute replaces ${name} by the values of parameters.
//
// It works on scalars after parsing, never on text before it, so that no value
// can add structure. It is strict: a reference to what is not declared is a
// problem with its place, and so is a ${ that begins no reference.
//
//	${name}        the value. A scalar that is exactly this keeps the value's type
//	${name|text}   the value as text, also where it stands alone
//	$${            the text ${
package substitute

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// Type is the type of a parameter.
type Type string

// The types. A number may have a fraction, an int may not.
const (
	String Type = "string"
	Int    Type = "int"
	Number Type = "number"
	Bool   Type = "bool"
	List   Type = "list"
)

// Words are the values that a file may hold.
func (Type) Words() []string {
	return []string{string(String), string(Int), string(Number), string(Bool), string(List)}
}

// Values are the values of parameters by name: string, int64, float64, bool, a
// list ([]any) of those, or Unknown.
type Values map[string]any

// Unknown is the value of a parameter that is declared and whose value cannot be
// told, such as the branch of a template. What holds a reference to it becomes
// Unknown as a whole.
var Unknown any = unknown{}

type unknown struct{}

// NamePattern is what names of parameters look like.
const NamePattern = `[A-Za-z][A-Za-z0-9_]{0,62}`

var reference = regexp.MustCompile(`^\$\{(` + NamePattern + `)(\|text)?\}`)

// maxText bounds what one text may grow to.
const maxText = 1 << 20

// Fault is one reference that cannot be replaced.
type Fault struct {
	Message, Hint string
}

// Refers reports whether a text holds anything that Text would change.
func Refers(s string) bool { return strings.Contains(s, "${") }

// Escape is a text for which Text gives s again.
func Escape(s string) string { return strings.ReplaceAll(s, "${", "$${") }

// Text replaces the references in a text. The result is a string, or the value
// itself where the text is exactly one reference, or Unknown.
func (v Values) Text(s string) (any, []Fault) {
	if !Refers(s) {
		return s, nil
	}
	if m := reference.FindStringSubmatch(s); m != nil && m[0] == s && m[2] == "" {
		value, fault := v.lookup(m[1])
		if fault != nil {
			return s, []Fault{*fault}
		}
		return value, nil
	}
	var out strings.Builder
	var faults []Fault
	known := true
	for rest := s; rest != ""; {
		i := strings.Index(rest, "${")
		if i < 0 {
			out.WriteString(rest)
			break
		}
		if i > 0 && rest[i-1] == '$' {
			out.WriteString(rest[:i-1] + "${")
			rest = rest[i+2:]
			continue
		}
		out.WriteString(rest[:i])
		text, used, fault := v.one(rest[i:])
		if fault != nil {
			faults = append(faults, *fault)
		}
		known = known && text != nil
		if text != nil {
			out.WriteString(*text)
		}
		rest = rest[i+used:]
		if out.Len() > maxText {
			return s, append(faults, Fault{Message: fmt.Sprintf("grows over %d bytes when its parameters are put in", maxText)})
		}
	}
	switch {
	case len(faults) > 0:
		return s, faults
	case !known:
		return Unknown, nil
	}
	return out.String(), nil
}

// one is the text of the reference at the beginning of s, nil if its value is
// unknown, and how many bytes of s it takes.
func (v Values) one(s string) (text *string, used int, fault *Fault) {
	empty := ""
	m := reference.FindStringSubmatch(s)
	if m == nil {
		return &empty, 2, malformed(s)
	}
	value, fault := v.lookup(m[1])
	if fault != nil {
		return &empty, len(m[0]), fault
	}
	if value == Unknown {
		return nil, len(m[0]), nil
	}
	t, ok := AsText(value)
	if !ok {
		return &empty, len(m[0]), &Fault{
			Message: fmt.Sprintf("parameter %s is a list, and stands in a text", m[1]),
			Hint:    "a list has to stand alone",
		}
	}
	return &t, len(m[0]), nil
}

// malformed says what is wrong with a ${ that begins no reference.
func malformed(s string) *Fault {
	begin := s
	if i := strings.IndexAny(s, "}\n"); i >= 0 {
		begin = s[:i+1]
	}
	if len(begin) > 40 || strings.ContainsAny(begin, "\n") || !strings.HasSuffix(begin, "}") {
		return &Fault{Message: "${ begins no reference to a parameter", Hint: "write ${name}, or $${ for the text ${"}
	}
	return &Fault{
		Message: begin + " is no reference to a parameter",
		Hint:    "write ${name} with letters, digits and _, or $" + begin + " for the text itself",
	}
}

func (v Values) lookup(name string) (any, *Fault) {
	value, ok := v[name]
	if ok {
		return value, nil
	}
	f := &Fault{Message: fmt.Sprintf("there is no parameter %q", name)}
	names := slices.Sorted(maps.Keys(v))
	literal := "for the text itself write $${" + name + "}"
	switch best := manifest.Closest(name, names); {
	case best != "":
		f.Hint = "did you mean " + best + "? " + literal
	case len(names) > 0 && len(names) <= 12:
		f.Hint = "known are " + strings.Join(names, ", ") + "; " + literal
	default:
		f.Hint = "declare it under spec.parameters, or " + literal
	}
	return nil, f
}

// AsText is a value as it stands in a text; a list is none.
func AsText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}
