package drift

import (
	"fmt"
	"strings"
)

// PathSteps are the steps of a change's path: `.a["b.c"][name=x].d` is a, b.c,
// name=x, d.
func PathSteps(p string) []string {
	var out []string
	for p != "" {
		switch {
		case strings.HasPrefix(p, `["`):
			end := strings.Index(p, `"]`)
			if end < 0 {
				return append(out, p)
			}
			out, p = append(out, strings.ReplaceAll(p[2:end], `\"`, `"`)), p[end+2:]
		case p[0] == '[':
			end := strings.IndexByte(p, ']')
			if end < 0 {
				return append(out, p)
			}
			out, p = append(out, p[1:end]), p[end+1:]
		default:
			p = strings.TrimPrefix(p, ".")
			end := strings.IndexAny(p, ".[")
			if end < 0 {
				end = len(p)
			}
			if end > 0 {
				out = append(out, p[:end])
			}
			p = p[end:]
		}
	}
	return out
}

// At is the value at a path of an encoded thing; Absent if there is none.
func At(body []byte, path string, sensitive bool) Value {
	v, err := decode(body)
	if err != nil {
		return Absent()
	}
	for _, step := range PathSteps(path) {
		var ok bool
		if v, ok = below(v, step); !ok {
			return Absent()
		}
	}
	return NewValue(v, sensitive)
}

// Below is what is one step below a decoded value; nil if there is nothing.
func Below(v any, step string) any {
	out, _ := below(v, step)
	return out
}

// below is one step further: a key of a map, or the entry of a list whose keys
// have the values of the step, as in "containerPort=80,protocol=TCP".
func below(v any, step string) (any, bool) {
	switch in := v.(type) {
	case map[string]any:
		out, ok := in[step]
		return out, ok
	case []any:
		for _, entry := range in {
			if keyed(entry, step) {
				return entry, true
			}
		}
	}
	return nil, false
}

func keyed(entry any, step string) bool {
	m, ok := entry.(map[string]any)
	if !ok {
		return fmt.Sprint(entry) == strings.TrimPrefix(step, "=")
	}
	for pair := range strings.SplitSeq(step, ",") {
		key, value, isPair := strings.Cut(pair, "=")
		if have, there := m[key]; !isPair || there && fmt.Sprint(have) != value {
			return false
		}
	}
	return true
}
