package yamldoc

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// Decoder reads nodes into values and collects all that is wrong. The zero value
// is ready.
type Decoder struct {
	Problems sources.Problems
	// At remembers, by the address of what was read, where its value stands, for
	// checks that need more than one value.
	At map[any]*Node
}

// Fail reports a problem at a node. The hint may be empty.
func (d *Decoder) Fail(n *Node, message, hint string) {
	d.Problems = append(d.Problems, sources.Problem{
		File: n.File, Line: n.Line, Column: n.Column, Message: message, Hint: hint,
	})
}

// Sort puts problems into the order of the files, and drops those told twice.
func Sort(ps sources.Problems) sources.Problems {
	slices.SortStableFunc(ps, func(a, b sources.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(ps)
}

func (d *Decoder) remember(into any, n *Node) {
	if d.At == nil {
		d.At = map[any]*Node{}
	}
	d.At[into] = n
}

// Field is one key of a mapping and what reads its value.
type Field struct {
	Key  string
	Read func(*Node)
}

// Mapping reads a mapping. An unknown key is a problem; a key without a value is
// left at its default.
func (d *Decoder) Mapping(n *Node, what string, fields ...Field) {
	if n.shape != nil {
		n.shape.object(fields)
		return
	}
	if n.Kind != Mapping {
		d.Fail(n, what+" must be a mapping, and is "+n.TypeName(), "")
		return
	}
	for i, key := range n.Keys {
		j := slices.IndexFunc(fields, func(f Field) bool { return f.Key == key.Value })
		switch {
		case j < 0:
			known := make([]string, len(fields))
			for i, f := range fields {
				known[i] = f.Key
			}
			d.Unknown(key, what, known)
		case !n.Values[i].IsNull():
			fields[j].Read(n.Values[i])
		}
	}
}

// Unknown reports a key that is none of those known.
func (d *Decoder) Unknown(key *Node, what string, known []string) {
	d.Fail(key, fmt.Sprintf("unknown key %q in %s", key.Value, what), Suggest(key.Value, known))
}

// Suggest is the hint for a word that is none of those known.
func Suggest(word string, known []string) string {
	if best := manifest.Closest(word, known); best != "" {
		return "did you mean " + best + "?"
	}
	return "known are " + strings.Join(known, ", ")
}

// List is the entries of a list; anything else is reported.
func (d *Decoder) List(n *Node, what string) []*Node {
	if n.shape != nil {
		return n.shape.list()
	}
	if n.Kind != List {
		d.Fail(n, what+" must be a list, and is "+n.TypeName(), "")
		return nil
	}
	return n.Values
}

// Text reads a text that is not empty, and reports whether it did.
func (d *Decoder) Text(n *Node, what string, into *string) bool {
	if n.shape != nil {
		n.shape.text(nil)
		return false
	}
	if n.Kind != Scalar || n.Tag != TagText {
		hint := ""
		switch {
		case n.Ref != "" && n.Kind == Scalar:
			hint = "write " + strings.TrimSuffix(n.Ref, "}") + "|text}"
		case n.Kind == Scalar && !n.IsNull():
			hint = "put it in quotes"
		}
		d.Fail(n, what+" must be text, and is "+n.TypeName(), hint)
		return false
	}
	if n.Value == "" {
		d.Fail(n, what+" is empty", "")
		return false
	}
	*into = n.Value
	d.remember(into, n)
	return true
}

// Bool reads true or false.
func (d *Decoder) Bool(n *Node, what string, into *bool) {
	if n.shape != nil {
		n.shape.Type = "boolean"
		return
	}
	if n.Kind != Scalar || n.Tag != TagBool {
		d.Fail(n, what+" must be true or false, and is "+n.TypeName(), "")
		return
	}
	*into = strings.EqualFold(n.Value, "true")
}

// Number reads a whole number within bounds, and reports whether it did.
func (d *Decoder) Number(n *Node, what string, least, most int64, into *int64) bool {
	if n.shape != nil {
		n.shape.number(least, most)
		return false
	}
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != Scalar || n.Tag != TagInt || err != nil || v < least || v > most {
		bounds := fmt.Sprintf("from %d to %d", least, most)
		if most == math.MaxInt64 {
			bounds = fmt.Sprintf("of at least %d", least)
		}
		d.Fail(n, fmt.Sprintf("%s must be a number %s, and is %s", what, bounds, n.Described()), "")
		return false
	}
	*into = v
	return true
}

// Duration reads a duration within bounds; most zero is no bound. It reports
// whether it did.
func (d *Decoder) Duration(n *Node, what string, least, most time.Duration, into *time.Duration) bool {
	if n.shape != nil {
		n.shape.duration()
		return false
	}
	v, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != Scalar || err != nil:
		d.Fail(n, fmt.Sprintf("%s must be a duration, and is %s", what, n.Described()), "write it with a unit, such as 30s or 5m")
	case v < least || v < 0:
		d.Fail(n, fmt.Sprintf("%s is %s, and must be at least %s", what, n.Value, short(least)), "")
	case most > 0 && v > most:
		d.Fail(n, fmt.Sprintf("%s is %s, and must be at most %s", what, n.Value, short(most)), "")
	default:
		*into = v
		return true
	}
	return false
}

// short is a duration without parts that are zero.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Word reads one of a few words, and reports whether it did.
func (d *Decoder) Word(n *Node, what string, into *string, allowed ...string) bool {
	if n.shape != nil {
		n.shape.text(allowed)
		return false
	}
	var s string
	if !d.Text(n, what, &s) {
		return false
	}
	if !slices.Contains(allowed, s) {
		d.Fail(n, fmt.Sprintf("%s %q is not known", what, s), "allowed are "+strings.Join(allowed, ", "))
		return false
	}
	*into = s
	return true
}
