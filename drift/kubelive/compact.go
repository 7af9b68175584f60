package kubelive

import "unique"

// intern makes the values that many records have in common one string each.
func intern(r *Record) {
	r.Environment, r.PartOf = one(r.Environment), one(r.PartOf)
}

func one(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

// share keeps what the live state and the baseline have in common once: as a rule
// that is all.
func (e *entry) share() {
	if e.live == nil || e.base == nil || e.live == &e.base.Record {
		return
	}
	if *e.live == e.base.Record {
		e.live = &e.base.Record
		return
	}
	if e.live.UID == e.base.UID {
		e.live.UID = e.base.UID
	}
	if e.live.Applied == e.base.Applied {
		e.live.Applied = e.base.Applied
	}
}
