package reconciler

import (
	"path"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// driftModeOf is what becomes of a drifted thing: of each of its changes the
// first rule that matches decides, else the mode; the thing is corrected if any
// of its changes is to be.
func driftModeOf(d environment.Drift, op Operation) environment.DriftMode {
	if len(op.Changes) == 0 {
		return fieldMode(d, op.Object, nil)
	}
	strictest := environment.DriftIgnore
	for i := range op.Changes {
		switch fieldMode(d, op.Object, &op.Changes[i]) {
		case environment.DriftCorrect:
			return environment.DriftCorrect
		case environment.DriftReport:
			strictest = environment.DriftReport
		}
	}
	return strictest
}

// leftAlone are the changes that a correction of the others does not touch.
func leftAlone(d environment.Drift, op Operation) []string {
	var out []string
	for i := range op.Changes {
		if fieldMode(d, op.Object, &op.Changes[i]) != environment.DriftCorrect {
			out = append(out, op.Changes[i].Path)
		}
	}
	return out
}

// ignored are the changes that an update leaves as they are: a rule says that
// nobody looks at them, and git did not change them.
func ignored(d environment.Drift, op Operation) []string {
	var out []string
	for i := range op.Changes {
		if len(d.Rules) > 0 && fieldMode(d, op.Object, &op.Changes[i]) == environment.DriftIgnore && d.Mode != environment.DriftIgnore {
			out = append(out, op.Changes[i].Path)
		}
	}
	return out
}

func fieldMode(d environment.Drift, id sources.ID, c *drift.Change) environment.DriftMode {
	for _, r := range d.Rules {
		if matches(r.Match, id, c) {
			return r.Mode
		}
	}
	if d.Mode == "" {
		return environment.DriftCorrect
	}
	return d.Mode
}

// needsFields reports whether it has to be known which fields differ before anything
// is written: for rules about fields or managers, and for those by which drift is
// reported and left.
func needsFields(d environment.Drift) bool {
	return slices.ContainsFunc(d.Rules, func(r environment.DriftRule) bool {
		return len(r.Paths)+len(r.Managers) > 0 || r.Mode == environment.DriftReport
	})
}

// matches reports whether a rule is about a thing's change; a nil change is that
// of the whole thing, which no rule about fields or managers matches.
func matches(m environment.Match, id sources.ID, c *drift.Change) bool {
	if !glob(m.Group, id.Group) || !glob(m.Kind, id.Kind) || !glob(m.Name, id.Name) || !glob(m.Namespace, id.Namespace) {
		return false
	}
	if len(m.Managers) > 0 && (c == nil || !slices.ContainsFunc(m.Managers, func(p string) bool { return glob(p, c.Manager) })) {
		return false
	}
	if len(m.Paths) == 0 {
		return true
	}
	if c == nil || c.Path == "" {
		return false
	}
	steps := drift.PathSteps(c.Path)
	return slices.ContainsFunc(m.Paths, func(p string) bool { return covers(pointerSteps(p), steps) })
}

// glob matches a pattern in which * is any text; an empty one matches all.
func glob(pattern, text string) bool {
	if pattern == "" || pattern == "*" {
		return true
	}
	if !strings.Contains(pattern, "*") {
		return pattern == text
	}
	parts := strings.Split(pattern, "*")
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// pointerSteps are the steps of a JSON pointer (RFC 6901).
func pointerSteps(pointer string) []string {
	steps := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, s := range steps {
		steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
	}
	return steps
}

// covers reports whether a pattern of steps is about a field. A step * is any
// one step, ** at the end any that follow. An entry of a keyed list, name=web,
// is meant by its key, its value or *. A field above or below the one that is
// named is another.
func covers(pattern, steps []string) bool {
	for i, p := range pattern {
		if p == "**" && i == len(pattern)-1 {
			return len(steps) > i
		}
		if i >= len(steps) {
			return false
		}
		value := steps[i]
		if _, v, keyed := strings.Cut(value, "="); keyed && v == p {
			continue
		}
		if ok, err := path.Match(p, value); p != "*" && p != value && (err != nil || !ok) {
			return false
		}
	}
	return len(pattern) == len(steps)
}
