package drift

import "slices"

// Selection chooses what a report shows. A zero field does not limit.
type Selection struct {
	// AtLeast leaves out what is less severe.
	AtLeast Severity
	// Manager is a field manager or a person; Kind is "Deployment" or
	// "Deployment.apps".
	Manager, Kind string
	Class         Class
	// Environments says of which a report is; nil for all.
	Environments func(name string) bool
}

// Classes are all of them.
var Classes = []Class{Changed, Missing, NotOwned, ExtraField, Unmanaged, StaleRevision}

// behindSeverity is how bad it is that a change waits or failed: what the built-in
// rule for an older revision says.
const behindSeverity = Medium

// Select keeps what is chosen, and counts it anew. How well environments are seen
// stays, whatever is chosen: of what cannot be seen nothing is known of any kind.
func (r Report) Select(s Selection) Report {
	of := func(environment string) bool { return s.Environments == nil || s.Environments(environment) }
	r.Episodes = slices.DeleteFunc(slices.Clone(r.Episodes), func(e Episode) bool { return !of(e.Environment) || !s.has(&e) })
	r.Behind = slices.DeleteFunc(slices.Clone(r.Behind), func(b Behind) bool {
		return !of(b.Environment) || !s.isOf(b.Class, b.Object.Kind, b.Object.GroupKind()) || s.Manager != "" || behindSeverity.rank() < s.AtLeast.rank()
	})
	r.Detectors = slices.DeleteFunc(slices.Clone(r.Detectors), func(d Detector) bool { return !of(d.Environment) })
	unsure := map[string]string{}
	for name, why := range r.Unsure {
		if of(name) {
			unsure[name] = why
		}
	}
	r.Unsure = unsure
	return r.Summed()
}

func (s Selection) has(e *Episode) bool {
	if !s.isOf(e.Class, e.Object.Kind, e.Object.GroupKind()) || s.AtLeast != "" && e.Severity.rank() < s.AtLeast.rank() {
		return false
	}
	by := func(c Change) bool { return c.Manager == s.Manager }
	return s.Manager == "" || slices.ContainsFunc(e.Changes, by) || e.Person != nil && (e.Person.User == s.Manager || e.Person.As == s.Manager)
}

func (s Selection) isOf(class Class, kind, groupKind string) bool {
	return (s.Class == "" || s.Class == class) && (s.Kind == "" || s.Kind == kind || s.Kind == groupKind)
}

// AtLeast are a severity and all that are worse.
func AtLeast(s Severity) []string {
	var out []string
	for _, other := range Severities {
		if other.rank() >= s.rank() {
			out = append(out, string(other))
		}
	}
	return out
}
