package gitrepo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// selector says which of a repository's refs is followed.
type selector struct {
	ref string
	// within, when not nil, is followed instead of ref.
	within *semver.Constraints
	// text is the range as people wrote it.
	text string
}

func newSelector(o Options) (selector, error) {
	if o.Semver == "" {
		return selector{ref: o.Ref}, nil
	}
	if o.Ref != "" {
		return selector{}, errors.New("both a ref and a range of versions are given")
	}
	within, err := parseRange(o.Semver)
	return selector{within: within, text: o.Semver}, err
}

// CheckSemver says what is wrong with a range of versions, such as ">=1.2 <2",
// "~1.4", "^2", "1.x" or "<1 || >3".
//
// Tags are versions when they are three numbers with dots between, with or
// without a leading v, as in v1.2.3; others are passed over. A version with a
// suffix (2.0.0-rc.1) counts only for a range that names one: ">=2.0.0-0 <3"
// takes those before 2.0.0 too. Of tags of one precedence (v1.2.3 and 1.2.3, or
// 1.2.3+a and 1.2.3+b) the last in the order of bytes is taken.
func CheckSemver(text string) error {
	_, err := parseRange(text)
	return err
}

func parseRange(text string) (*semver.Constraints, error) {
	within, err := semver.NewConstraint(text)
	if err != nil {
		return nil, fail(ErrRefNotFound, fmt.Sprintf("%q is no range of versions", printable(text, 100)),
			`write it as ">=1.2 <2", "~1.4", "^2" or "1.x"`)
	}
	return within, nil
}

// from finds what is followed among what a server lists.
func (s selector) from(l *listing) (target, error) {
	if s.within == nil {
		return l.resolve(s.ref)
	}
	return l.highest(s.within, s.text)
}

// maxTag bounds the names that are tried as versions: a server may list anything.
const maxTag = 200

// highest finds the tag with the highest version in a range.
func (l *listing) highest(within *semver.Constraints, text string) (target, error) {
	var best, outside *semver.Version
	var name string
	for ref := range l.adv.References {
		v := tagVersion(ref)
		switch {
		case v == nil:
		case !within.Check(v):
			if outside == nil || v.GreaterThan(outside) {
				outside = v
			}
		case best == nil || v.GreaterThan(best) || v.Equal(best) && ref > name:
			best, name = v, ref
		}
	}
	if best == nil {
		hint := "tags are versions when they look like v1.2.3"
		if outside != nil {
			hint = "the highest version outside it is " + printable(outside.Original(), maxTag)
		}
		return target{}, fail(ErrRefNotFound, fmt.Sprintf("no tag has a version in the range %q", printable(text, 100)), hint)
	}
	t, _ := l.named(name)
	return t, nil
}

// tagVersion is the version that a ref stands for, nil when it does for none.
func tagVersion(ref string) *semver.Version {
	tag, ok := strings.CutPrefix(ref, "refs/tags/")
	if !ok || len(tag) > maxTag {
		return nil
	}
	v, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v"))
	if err != nil {
		return nil
	}
	return v
}
