package environment

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Defaults implements yamldoc.Defaults.
func (p *Preview) Defaults() { p.Lifetime, p.Max = DefaultPreviewLifetime, DefaultPreviewMax }

// Defaults implements yamldoc.Defaults.
func (b *DeletionBudget) Defaults() {
	b.Count, b.Percent, b.StopPercent = DefaultBudgetCount, DefaultBudgetPercent, DefaultBudgetStop
}

// Defaults implements yamldoc.Defaults.
func (r *Rollout) Defaults() { r.MaxUnavailable = DefaultRolloutUnready }

// Template is a spec of preview environments.
type Template struct {
	// Spec is what is the same for all of them.
	Spec     Spec
	doc      *document
	resolver *resolver
}

// Matches reports whether a branch, by its name without refs/heads/, gets an
// environment.
func (t Template) Matches(branch string) bool {
	return matchesAny(t.Spec.Preview.Branches, branch) && !matchesAny(t.Spec.Preview.Exclude, branch)
}

// For is the environment of a branch at a commit. Its error is sources.Problems.
func (t Template) For(branch, commit string) (Spec, error) {
	b := builtins{name: InstanceName(t.Spec.Name, branch), branch: branch, commit: commit}
	x := t.resolver.resolve(t.doc, b)
	if x.spec.Preview == nil {
		return Spec{}, sources.Problems{{File: t.doc.file, Line: t.doc.line, Message: "is no template of previews"}}
	}
	p := *x.spec.Preview
	p.Template, p.Branch, p.Commit = t.Spec.Name, branch, commit
	x.spec.Preview = &p
	return x.spec, yamldoc.Sort(x.problems).Err()
}

// Sample is a branch that the first pattern matches, to try the template with.
func (t Template) Sample() string {
	return strings.NewReplacer("**", "example", "*", "example", "?", "x").Replace(t.Spec.Preview.Branches[0])
}

// Show is what Repository.Show is, for the environment of a branch.
func (t Template) Show(branch, commit string) ([]byte, error) {
	b := builtins{name: InstanceName(t.Spec.Name, branch), branch: branch, commit: commit}
	x := t.resolver.resolve(t.doc, b)
	if len(x.problems) > 0 {
		return nil, yamldoc.Sort(x.problems)
	}
	return shown{doc: x.doc, spec: without(x.merged, "preview"), labels: x.spec.Labels}.text(b.name), nil
}

const (
	// maxBranchSlug leaves room for a prefix in the name of a namespace.
	maxBranchSlug = 40
	// hashDigits are enough for the branches of one repository.
	hashDigits = 6
)

var notInLabel = regexp.MustCompile(`[^a-z0-9]+`)

// BranchSlug is a branch's name as a DNS label of at most 40 characters. One that
// had to be changed ends with a hash, so that two branches do not become one.
func BranchSlug(branch string) string { return slug(branch, branch, maxBranchSlug) }

// InstanceName is the name of the environment that a template makes for a branch:
// template-branch, or where that is no DNS label template-slug-hash.
func InstanceName(template, branch string) string {
	name := template + "-" + branch
	if label.MatchString(name) {
		return name
	}
	return slug(template+"-"+strings.ToLower(branch), template+"/"+branch, 63)
}

// slug makes a DNS label of a name. The hash is over what tells it from others.
func slug(name, identity string, most int) string {
	if label.MatchString(name) && len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(identity))
	hash := hex.EncodeToString(sum[:])[:hashDigits]
	s := strings.Trim(notInLabel.ReplaceAllString(strings.ToLower(name), "-"), "-")
	s = strings.Trim(s[:min(len(s), most-hashDigits-1)], "-")
	if s == "" {
		return "b-" + hash
	}
	return s + "-" + hash
}

func matchesAny(patterns []string, branch string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return branchPattern(p).MatchString(branch) })
}

// branchPattern turns a pattern into an expression.
func branchPattern(pattern string) *regexp.Regexp {
	var out strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch {
		case strings.HasPrefix(pattern[i:], "**"):
			out.WriteString(".*")
			i++
		case pattern[i] == '*':
			out.WriteString("[^/]*")
		case pattern[i] == '?':
			out.WriteString("[^/]")
		default:
			out.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	return regexp.MustCompile("^(?:" + out.String() + ")$")
}

var errPattern = errors.New("not a pattern")

func validBranchPattern(pattern string) error {
	if len(pattern) > 255 || !utf8.ValidString(pattern) || strings.ContainsAny(pattern, " ~^:\\[") || strings.Contains(pattern, "..") {
		return errPattern
	}
	return nil
}
