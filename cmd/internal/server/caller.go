package server

import (
	"path"
	"slices"
	"strings"
)

// Grant is a role in some environments.
type Grant struct {
	Role Role
	// Environments are patterns of their names; nil is all.
	Environments []string
}

// covers reports whether a grant is about an environment.
func (g Grant) covers(environment string) bool {
	return g.Environments == nil || slices.ContainsFunc(g.Environments, func(pattern string) bool {
		ok, err := path.Match(pattern, environment)
		return ok && err == nil
	})
}

// caller is who makes a request. The zero value is somebody who did not have to
// say: a reader where reading is free, or whoever reaches the socket.
type caller struct {
	// name is who acts, and how is what says so, for errors: "the token".
	name, how string
	grants    []Grant
	// readsAll: what the grants bound is only what may be changed, since reading
	// needs no grant here.
	readsAll bool
	// session says that the caller came by a cookie.
	session bool
}

// known reports whether the caller has said who it is.
func (c caller) known() bool { return c.name != "" }

// String is "the token anna".
func (c caller) String() string { return strings.TrimSpace(c.how + " " + c.name) }

// role is the most that the caller may do anywhere.
func (c caller) role() (most Role) {
	for _, g := range c.grants {
		most = max(most, g.Role)
	}
	return most
}

// roleIn is the most that the caller may do in an environment.
func (c caller) roleIn(environment string) (most Role) {
	for _, g := range c.grants {
		if g.covers(environment) {
			most = max(most, g.Role)
		}
	}
	return most
}

// everywhere reports whether the caller has a role in all environments, also those
// to come.
func (c caller) everywhere(role Role) bool {
	return !c.known() || slices.ContainsFunc(c.grants, func(g Grant) bool { return g.Environments == nil && g.Role >= role })
}

// mayChange reports whether the caller may change an environment.
func (c caller) mayChange(environment string) bool {
	return !c.known() || c.roleIn(environment) >= RoleOperate
}

// patterns are those of the environments in which the caller has a role.
func (c caller) patterns(role Role) []string {
	var out []string
	for _, g := range c.grants {
		switch {
		case g.Role < role:
		case g.Environments == nil:
			return []string{"*"}
		default:
			out = append(out, g.Environments...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mayRead reports whether the caller may know of an environment. Where nobody has
// to say who reads, all may be read.
func (c caller) mayRead(environment string) bool {
	return !c.known() || c.readsAll || c.roleIn(environment) >= RoleRead
}

// scope is the same for callers who may read the same, so that they may share
// answers; empty for those who may read all.
func (c caller) scope() string {
	if !c.known() || c.readsAll || c.everywhere(RoleRead) {
		return ""
	}
	return "only " + strings.Join(c.patterns(RoleRead), ",")
}
