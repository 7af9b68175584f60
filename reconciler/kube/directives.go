package kube

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The annotations by which a manifest says how it is treated. They count in git;
// AnnotationPrune and AnnotationRecreate count on the live object, too.
const (
	// AnnotationApply is IfNotPresent (made once, never changed), Merge (fields of
	// others are never taken over), or Ignore (left alone).
	AnnotationApply = "holdfast.dev/apply"
	// AnnotationRecreate is "allowed" or "never".
	AnnotationRecreate = "holdfast.dev/recreate"
	// AnnotationWave is a whole number: lower waves are applied first.
	AnnotationWave = "holdfast.dev/wave"
	// AnnotationHook is "before" or "after".
	AnnotationHook = "holdfast.dev/hook"
	// AnnotationHookDelete lists when a hook's object is deleted: before-creation,
	// succeeded, failed.
	AnnotationHookDelete = "holdfast.dev/hook-delete"
	// AnnotationHookTimeout is how long a hook may take, such as 10m.
	AnnotationHookTimeout = "holdfast.dev/hook-timeout"
)

// applyMode is how an object is written.
type applyMode string

const (
	applyAlways applyMode = ""
	applyOnce   applyMode = "IfNotPresent"
	applyMerge  applyMode = "Merge"
	applyNever  applyMode = "Ignore"
)

// hookKind is when a hook runs.
type hookKind string

const (
	hookBefore hookKind = "before"
	hookAfter  hookKind = "after"
	// hookNever is a hook of another tool for an event that there is not here,
	// such as a rollback: it is never applied.
	hookNever hookKind = "never"
)

// directives are what an object's annotations ask for.
type directives struct {
	apply    applyMode
	keep     bool
	wave     int
	recreate string

	hook        hookKind
	hookDelete  []string
	hookTimeout time.Duration
}

// defaultHookTimeout is how long a hook may take that says nothing of it.
const defaultHookTimeout = 5 * time.Minute

// directiveMarks are what an annotation that asks for something begins with.
var directiveMarks = [][]byte{
	[]byte(`"holdfast.dev/`), []byte(`"kustomize.toolkit.fluxcd.io/`),
	[]byte(`"argocd.argoproj.io/`), []byte(`"helm.sh/`),
}

// hookMark ends every annotation that makes a hook.
var hookMark = []byte(`/hook":`)

// mayBeHook tells, without decoding it, whether an item can be a hook.
func mayBeHook(item sources.Item) bool { return bytes.Contains(item.Body, hookMark) }

// directivesOf reads what an item's annotations ask for. Most items have none of
// them, and are not even decoded.
func directivesOf(item sources.Item) (directives, error) {
	if !slices.ContainsFunc(directiveMarks, func(m []byte) bool { return bytes.Contains(item.Body, m) }) {
		return directives{}, nil
	}
	var object struct {
		Metadata struct{ Annotations map[string]string }
	}
	if err := decode(item.Body, &object); err != nil {
		return directives{}, fmt.Errorf("decode: %w", err)
	}
	return parseDirectives(object.Metadata.Annotations)
}

// parseDirectives reads our own annotations, and those of Flux, Argo CD and Helm
// that mean the same. Ours win, and are checked; theirs are taken where they are
// understood.
func parseDirectives(notes map[string]string) (directives, error) {
	d := fluxDirectives(notes)
	argoDirectives(notes, &d)
	helmDirectives(notes, &d)
	var problems sources.Problems
	bad := func(key, want string) {
		problems = append(problems, sources.Problem{
			Message: fmt.Sprintf("annotation %s: %q is not understood", key, notes[key]), Hint: "use " + want,
		})
	}
	switch v, ok := notes[AnnotationApply]; {
	case !ok:
	case !slices.Contains([]applyMode{"Always", applyOnce, applyMerge, applyNever}, applyMode(v)):
		bad(AnnotationApply, "Always, IfNotPresent, Merge or Ignore")
	default:
		d.apply = applyMode(strings.TrimPrefix(v, "Always"))
	}
	if v, ok := notes[AnnotationRecreate]; ok {
		if d.recreate = v; v != "allowed" && v != "never" {
			bad(AnnotationRecreate, "allowed or never")
		}
	}
	if v, ok := notes[AnnotationWave]; ok {
		n, err := strconv.Atoi(v)
		if d.wave = n; err != nil {
			bad(AnnotationWave, "a whole number")
		}
	}
	if v, ok := notes[kubelive.AnnotationPrune]; ok {
		if d.keep = v == "disabled"; v != "disabled" && v != "enabled" {
			bad(kubelive.AnnotationPrune, "disabled or enabled")
		}
	}
	ownHook(notes, &d, bad)
	return d, problems.Err()
}

func ownHook(notes map[string]string, d *directives, bad func(key, want string)) {
	if v, ok := notes[AnnotationHook]; ok {
		if d.hook = hookKind(v); d.hook != hookBefore && d.hook != hookAfter {
			bad(AnnotationHook, "before or after")
		}
	}
	if v, ok := notes[AnnotationHookDelete]; ok {
		d.hookDelete = splitList(v)
		for _, p := range d.hookDelete {
			if !slices.Contains([]string{hookDeleteBefore, hookDeleteSucceeded, hookDeleteFailed}, p) {
				bad(AnnotationHookDelete, "before-creation, succeeded or failed, separated by commas")
			}
		}
	}
	d.hookTimeout = defaultHookTimeout
	if v, ok := notes[AnnotationHookTimeout]; ok {
		wait, err := time.ParseDuration(v)
		if d.hookTimeout = wait; err != nil || wait <= 0 || wait > 24*time.Hour {
			bad(AnnotationHookTimeout, "a duration up to 24h, such as 10m")
		}
	}
	if d.hook != "" && len(d.hookDelete) == 0 {
		d.hookDelete = []string{hookDeleteBefore}
	}
}

func fluxDirectives(notes map[string]string) (d directives) {
	const flux = "kustomize.toolkit.fluxcd.io/"
	switch v := notes[flux+"ssa"]; {
	case strings.EqualFold(v, string(applyOnce)):
		d.apply = applyOnce
	case strings.EqualFold(v, string(applyMerge)):
		d.apply = applyMerge
	case strings.EqualFold(v, string(applyNever)):
		d.apply = applyNever
	}
	if strings.EqualFold(notes[flux+"reconcile"], "disabled") {
		d.apply = applyNever
	}
	d.keep = strings.EqualFold(notes[flux+"prune"], "disabled")
	if strings.EqualFold(notes[flux+"force"], "enabled") {
		d.recreate = "allowed"
	}
	return d
}

// argoDirectives takes what Argo CD's annotations ask for. Its compare-options
// change what Argo CD shows, and have no part in what is applied.
func argoDirectives(notes map[string]string, d *directives) {
	const argo = "argocd.argoproj.io/"
	for _, option := range splitList(notes[argo+"sync-options"]) {
		switch option {
		case "Prune=false", "Prune=confirm", "Delete=false", "Delete=confirm":
			d.keep = true
		case "Force=true", "Replace=true":
			d.recreate = "allowed"
		}
	}
	if n, err := strconv.Atoi(notes[argo+"sync-wave"]); err == nil {
		d.wave = n
	}
	hooks := splitList(notes[argo+"hook"])
	for _, h := range hooks {
		switch h {
		case "PreSync":
			d.hook = hookBefore
		case "PostSync":
			d.hook = hookAfter
		case "Skip", "SyncFail", "PreDelete", "PostDelete":
			if d.hook == "" {
				d.hook = hookNever
			}
		}
	}
	for _, p := range splitList(notes[argo+"hook-delete-policy"]) {
		switch p {
		case "BeforeHookCreation":
			d.hookDelete = append(d.hookDelete, hookDeleteBefore)
		case "HookSucceeded":
			d.hookDelete = append(d.hookDelete, hookDeleteSucceeded)
		case "HookFailed":
			d.hookDelete = append(d.hookDelete, hookDeleteFailed)
		}
	}
}

// helmDirectives takes install and upgrade hooks for before and after hooks.
// Those of deletion, rollback and test are never applied.
func helmDirectives(notes map[string]string, d *directives) {
	for _, h := range splitList(notes["helm.sh/hook"]) {
		switch h {
		case "pre-install", "pre-upgrade":
			d.hook = hookBefore
		case "post-install", "post-upgrade":
			d.hook = hookAfter
		default:
			if d.hook == "" {
				d.hook = hookNever
			}
		}
	}
	if n, err := strconv.Atoi(notes["helm.sh/hook-weight"]); err == nil {
		d.wave = n
	}
	for _, p := range splitList(notes["helm.sh/hook-delete-policy"]) {
		switch p {
		case "before-hook-creation":
			d.hookDelete = append(d.hookDelete, hookDeleteBefore)
		case "hook-succeeded":
			d.hookDelete = append(d.hookDelete, hookDeleteSucceeded)
		case "hook-failed":
			d.hookDelete = append(d.hookDelete, hookDeleteFailed)
		}
	}
	if notes["helm.sh/resource-policy"] == "keep" {
		d.keep = true
	}
}

func splitList(text string) []string {
	var out []string
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
