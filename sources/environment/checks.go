package environment

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/holdfast-gitops/holdfast/internal/celexpr"
	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources"
)

var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

const labelHint = "at most 63 lower case letters, digits and dashes"

var (
	qualified  = regexp.MustCompile(`^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
	digest     = regexp.MustCompile(`^sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})$`)
	release    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,51}[a-z0-9])?$`)
	version    = regexp.MustCompile(`^v?\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$`)
	kubernetes = regexp.MustCompile(`^v?\d+\.\d+(?:\.\d+)?$`)
	valuePath  = regexp.MustCompile(`^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*$`)
)

// checks are those that the tags of the types name. Files are looked for in a
// tree; nil looks for none.
func checks(tree sources.Tree) yamldoc.Checks {
	return yamldoc.Checks{
		Text: map[string]yamldoc.Check{
			"label":          labelCheck,
			"serviceAccount": serviceAccountCheck,
			"ref":            refCheck,
			"regexp":         regexpCheck,
			"digest":         matching(digest, "is not a digest", "write sha256: and 64 hexadecimal digits"),
			"path":           pathCheck,
			"chartRepo":      chartRepoCheck,
			"releaseName":    matching(release, "is not a valid name of a release", "at most 53 lower case letters, digits, dashes and dots"),
			"kubeVersion":    matching(kubernetes, "is not a version of Kubernetes", "write it like 1.37.2"),
			"valuePath":      matching(valuePath, "is not a path of a value", "keys of letters, digits, - and _, separated by dots"),
			"health":         celCheck(celexpr.Health),
			"message":        celCheck(celexpr.Message),
			"severity":       celCheck(celexpr.Severity),
			"pointer":        pointerCheck,
			"cron":           cronCheck,
			"timezone":       timezoneCheck,
			"branchPattern":  branchPatternCheck,
		},
		Map: map[string]func(*yamldoc.Decoder, *yamldoc.Node, string){
			"labels":      labelsCheck,
			"annotations": annotationsCheck,
		},
	}
}

func labelCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	if label.MatchString(s) {
		return
	}
	if what == "spec.namespace" {
		d.Fail(n, fmt.Sprintf("%s %q is not the name of a namespace", what, s), labelHint)
		return
	}
	d.Fail(n, fmt.Sprintf("%s %q is not a valid name", what, s), labelHint)
}

func matching(re *regexp.Regexp, message, hint string) yamldoc.Check {
	return func(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
		if !re.MatchString(s) {
			d.Fail(n, fmt.Sprintf("%s %q %s", what, s, message), hint)
		}
	}
}

func serviceAccountCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	namespace, name, both := strings.Cut(s, "/")
	if !both {
		namespace, name = "x", namespace
	}
	if !label.MatchString(namespace) || !release.MatchString(name) {
		d.Fail(n, fmt.Sprintf("%s %q is not a service account", what, s), "write its name, or namespace/name")
	}
}

// refCheck refuses what git would, as far as it matters.
func refCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	bad := strings.HasPrefix(s, "-") || strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") || strings.HasSuffix(s, ".lock") ||
		strings.Contains(s, "..") || strings.Contains(s, "//") || strings.Contains(s, "@{") || strings.ContainsAny(s, " ~^:?*[\\") ||
		strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
	if bad || len(s) > 255 {
		d.Fail(n, fmt.Sprintf("%s %q is not the name of a ref", what, s), "name a branch, a tag, refs/… or a commit")
	}
}

func regexpCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	if _, err := regexp.Compile(s); err != nil {
		message := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		d.Fail(n, what+" is not a regular expression: "+message, "")
	}
}

// pathCheck looks at the form of a path; whether it is there is another check.
func pathCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	switch {
	case path.IsAbs(s):
		d.Fail(n, fmt.Sprintf("%s %q is absolute", what, s), "paths begin at the root of the repository, without a slash")
	case !fs.ValidPath(path.Clean(s)):
		d.Fail(n, fmt.Sprintf("%s %q leads out of the repository", what, s), "paths begin at the root of the repository")
	}
}

func chartRepoCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		d.Fail(n, what+" is not the address of a chart repository", "write https://… or oci://…")
	case u.Scheme != "https" && u.Scheme != "oci" && u.Scheme != "http":
		d.Fail(n, fmt.Sprintf("%s has the scheme %q, which is not supported", what, u.Scheme), "write https://… or oci://…")
	case u.User != nil:
		d.Fail(n, what+" holds credentials, and this file is no place for them", "the daemon's configuration names them")
	case u.RawQuery != "" || u.Fragment != "":
		d.Fail(n, what+" has a query or a fragment", "write the address alone")
	}
}

func pointerCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	switch {
	case !strings.HasPrefix(s, "/"):
		hint := "begin it with a slash, as in /spec/replicas"
		if !strings.ContainsAny(s, "/ ") {
			hint = "write /" + strings.ReplaceAll(s, ".", "/")
		}
		d.Fail(n, fmt.Sprintf("%s %q is not a JSON pointer", what, s), hint)
	case strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(s), "~"):
		d.Fail(n, fmt.Sprintf("%s %q is not a JSON pointer", what, s), "write ~1 for a slash in a key and ~0 for a tilde")
	case strings.Contains(strings.TrimSuffix(s, "/**"), "**"):
		d.Fail(n, fmt.Sprintf("%s %q has ** in the middle", what, s), "** stands for all below, and is the last step")
	}
}

func celCheck(env *celexpr.Env) yamldoc.Check {
	return func(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
		if _, err := env.Compile(s); err != nil {
			d.Fail(n, what+" is not a usable CEL expression: "+err.Error(), "")
		}
	}
}

func cronCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	hint := "five fields: minute, hour, day of month, month, day of week, as in 0 22 * * 5"
	if strings.HasPrefix(s, "@") || strings.Contains(s, "TZ=") {
		d.Fail(n, fmt.Sprintf("%s %q is not a schedule", what, s), hint)
		return
	}
	if _, err := cron.ParseStandard(s); err != nil {
		d.Fail(n, fmt.Sprintf("%s %q is not a schedule: %v", what, s, err), hint)
	}
}

func timezoneCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	if _, err := time.LoadLocation(s); err != nil || s == "Local" {
		d.Fail(n, fmt.Sprintf("%s %q is not a time zone", what, s), "write it like Europe/Berlin")
	}
}

func branchPatternCheck(d *yamldoc.Decoder, n *yamldoc.Node, what, s string) {
	if strings.HasPrefix(s, "refs/") {
		d.Fail(n, fmt.Sprintf("%s %q begins with refs/", what, s), "write the branch's name alone")
		return
	}
	if err := validBranchPattern(s); err != nil {
		d.Fail(n, fmt.Sprintf("%s %q is not a pattern of branches", what, s), "* stands for any text but a slash, ** for any text")
	}
}

// reserved are the prefixes of metadata that Holdfast itself writes.
var reserved = []string{"holdfast.dev/", "applyset.kubernetes.io/"}

func labelsCheck(d *yamldoc.Decoder, n *yamldoc.Node, what string) {
	for i, key := range n.Keys {
		keyCheck(d, key, what)
		v := n.Values[i]
		if v.Kind == yamldoc.Scalar && v.Tag == yamldoc.TagText && !labelValue.MatchString(v.Value) {
			d.Fail(v, fmt.Sprintf("%s[%s] %q is not a value of a label", what, key.Value, v.Value), "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit")
		}
	}
}

func annotationsCheck(d *yamldoc.Decoder, n *yamldoc.Node, what string) {
	size := 0
	for i, key := range n.Keys {
		keyCheck(d, key, what)
		size += len(key.Value) + len(n.Values[i].Value)
	}
	if size > 256<<10 {
		d.Fail(n, fmt.Sprintf("%s is %d bytes, and at most %d are allowed", what, size, 256<<10), "")
	}
}

func keyCheck(d *yamldoc.Decoder, key *yamldoc.Node, what string) {
	if !qualified.MatchString(key.Value) {
		d.Fail(key, fmt.Sprintf("%s: %q is not a key", what, key.Value), "write name, or prefix.example.org/name")
		return
	}
	for _, prefix := range reserved {
		if strings.HasPrefix(key.Value, prefix) && strings.HasPrefix(what, "spec.") {
			d.Fail(key, fmt.Sprintf("%s: %q is reserved", what, key.Value), "Holdfast sets "+prefix+"… by itself")
		}
	}
}
