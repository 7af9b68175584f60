package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// A field that was put back fightLimit times, with never longer than fightDecay
// in between, is fought over, and is left to whoever else writes it.
const (
	fightLimit = 10
	fightDecay = 10 * time.Minute
)

// fight is how often one field of a thing was put back.
type fight struct {
	count   int
	last    time.Time
	manager string
	// lost: the field is left alone.
	lost bool
}

// fights are the fields that are put back again and again, by thing and path.
// They belong to the worker.
type fights map[sources.ID]map[string]*fight

// note counts a correction, and returns the fields that are left from now on.
func (f fights) note(id sources.ID, changes []drift.Change, now time.Time) (lost []drift.Change) {
	for _, c := range changes {
		if c.Path == "" {
			continue // a thing that is gone has no field to leave
		}
		if f[id] == nil {
			f[id] = map[string]*fight{}
		}
		x := f[id][c.Path]
		if x == nil || now.Sub(x.last) > fightDecay {
			x = &fight{}
			f[id][c.Path] = x
		}
		x.count++
		x.last, x.manager = now, c.Manager
		if x.count == fightLimit {
			x.lost = true
			lost = append(lost, c)
		}
	}
	return lost
}

// left are the paths of a thing that are left alone.
func (f fights) left(id sources.ID) []string {
	var out []string
	for path, x := range f[id] {
		if x.lost {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out
}

// any reports whether any field is left alone.
func (f fights) any() bool {
	for id := range f {
		if len(f.left(id)) > 0 {
			return true
		}
	}
	return false
}

// why says what is fought over, and how to accept it.
func (f fights) why(id sources.ID, path string) string {
	x := f[id][path]
	return fmt.Sprintf("%s and Holdfast fight over it, so it is left alone until git changes or a resync; to accept it add to spec.drift.rules: %s", x.manager, IgnoreRule(id, path))
}

// IgnoreRule is the rule that leaves one field of one thing alone, as it is
// written into spec.drift.rules.
func IgnoreRule(id sources.ID, path string) string {
	steps := drift.PathSteps(path)
	for i, s := range steps {
		if _, value, keyed := strings.Cut(s, "="); keyed {
			s = value
		}
		steps[i] = strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
	}
	group := ""
	if id.Group != "" {
		group = "group: " + id.Group + ", "
	}
	namespace := ""
	if id.Namespace != "" {
		namespace = "namespace: " + id.Namespace + ", "
	}
	return fmt.Sprintf("{%skind: %s, %sname: %s, paths: [%q], mode: ignore}", group, id.Kind, namespace, id.Name, "/"+strings.Join(steps, "/"))
}

// holdFights leaves alone what is fought over: a correction that is about nothing
// else is held, any other leaves those fields as they are.
func holdFights(ops []Operation, f fights, revert []sources.ID) {
	for i := range ops {
		op := &ops[i]
		left := f.left(op.Object)
		if !op.drifted() || len(left) == 0 || len(op.Changes) == 0 || slices.Contains(revert, op.Object) {
			continue
		}
		others := slices.ContainsFunc(op.Changes, func(c drift.Change) bool { return !slices.Contains(left, c.Path) })
		if !others || op.Kind == OpRecreate {
			op.hold(GateFight, f.why(op.Object, op.Changes[0].Path))
			continue
		}
		for _, c := range op.Changes {
			if slices.Contains(left, c.Path) && !slices.Contains(op.Leave, c.Path) {
				op.Leave = append(op.Leave, c.Path)
			}
		}
	}
}
