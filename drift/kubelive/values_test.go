package kubelive

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
)

// Of a map that git gives empty, what others put into it is theirs: it moves no
// baseline, and is told as an addition. Of what the server keeps together nobody owns a
// part, so that a change of it does.
func TestWhatOthersPutIntoAnEmptyMapIsTheirs(t *testing.T) {
	ours := []string{"f:image: {}, f:command: {}", "f:image: {}, f:command: {}, f:resources: {}"}
	empty := object(t, ours[0], ours[1], "imagePullPolicy: Always", "resources: {}")
	theirs := []string{ours[0], ours[1], "imagePullPolicy: Always", "resources: {limits: {cpu: 1}}"}
	unowned := object(t, theirs...)
	filled := object(t, append(theirs, "f:spec: {f:paused: {}}",
		`f:spec: {f:paused: {}, f:template: {f:spec: {f:containers: {'k:{"name":"web"}': {f:name: {}, f:resources: {f:limits: {.: {}, f:cpu: {}}}}}}}}`)...)
	base := BaselineOf(empty, owner)
	if BaselineOf(filled, owner).Values != base.Values {
		t.Error("what others own in it moves the baseline")
	}
	if BaselineOf(unowned, owner).Values == base.Values {
		t.Error("what nobody owns in it does not move the baseline")
	}
	var paths []string
	for _, a := range Additions(filled, owner) {
		paths = append(paths, a.Path)
	}
	if got := strings.Join(paths, " "); got != ".spec.paused .spec.template.spec.containers[name=web].resources.limits.cpu" {
		t.Errorf("additions: %s", got)
	}
}

// An order is nobody's in managedFields, also where somebody else has an element.
func TestWhoChangedAnOrderIsUnknown(t *testing.T) {
	const web, log = `{name: web, image: "web:1", command: [run, fast], imagePullPolicy: Always}`, `{name: log, image: "log:1"}`
	live := object(t, "- "+web+"\n      - "+log, "- "+log+"\n      - "+web,
		"f:spec: {f:paused: {}}", `f:spec: {f:template: {f:spec: {f:containers: {'k:{"name":"side"}': {.: {}, f:name: {}}}}}}`)
	changes, _ := Compare(live, object(t), owner, false)
	if len(changes) != 1 || changes[0].Path != ".spec.template.spec.containers" || changes[0].Manager != drift.Unknown {
		t.Errorf("%+v", changes)
	}
}

func TestWhatAServerMakesOfWhatIsWritten(t *testing.T) {
	for _, c := range []struct {
		live, written any
		same          bool
	}{
		{"1", "1000m", true},
		{"1Gi", "1024Mi", true},
		{"1", int64(1), true},
		{"2", "1000m", false},
		{"a", "b", false},
		{true, "true", false},
		{map[string]any{"a": "b", "default": int64(1)}, map[string]any{"a": "b", "gone": nil}, true},
		{map[string]any{"default": int64(1)}, map[string]any{"a": "b"}, false},
		{[]any{map[string]any{"a": "b", "default": "x"}}, []any{map[string]any{"a": "b"}}, true},
		{[]any{"a", "b"}, []any{"a"}, false},
		{"a", map[string]any{}, false},
		{map[string]any{}, map[string]any{}, true},
	} {
		if got := holdsWritten(c.live, c.written); got != c.same {
			t.Errorf("%v for %v: %v", c.live, c.written, got)
		}
	}
	if fmt.Sprint(withoutFields(map[string]any{"a": "b", "c": map[string]any{"d": "e", "f": "g"}}, fieldSet{"f:c": {"f:d": {}}})) != "map[a:b c:map[f:g]]" {
		t.Error("what is not theirs is left out")
	}
}
