package codify

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// edit is one file with one place changed.
type edit struct {
	file    string
	line    int
	content []byte
	// adds: it adds an override instead of changing what is there.
	adds bool
	// rank puts the likeliest first: what has the field's own name.
	rank int
}

// swap is a text that may be written in the files, and what is to stand there.
type swap struct{ from, to string }

// edits are the places that could set a field, the likeliest first.
func (s *search) edits(item sources.Item, at string, git, live json.RawMessage) []edit {
	steps := drift.PathSteps(at)
	key := steps[len(steps)-1]
	var out []edit
	for _, name := range s.files {
		info, err := s.tree.Stat(name)
		if err != nil || info.Size() > maxFileBytes {
			continue
		}
		content, err := fs.ReadFile(s.tree, name)
		if err != nil {
			continue
		}
		if live == nil {
			out = append(out, removals(name, content, key, git)...)
		} else {
			out = append(out, replacements(name, content, key, swaps(at, git, live))...)
		}
		if base := path.Base(name); live != nil && (base == "kustomization.yaml" || base == "kustomization.yml") {
			out = append(out, additions(name, content, item, at, git, live)...)
		}
	}
	slices.SortStableFunc(out, func(a, b edit) int { return b.rank - a.rank })
	return out
}

// swaps are how a value, or the part of an image that differs, may be written.
func swaps(at string, git, live json.RawMessage) []swap {
	from, to := scalar(git), scalar(live)
	if from == nil || to == nil {
		return nil
	}
	out := []swap{{*from, *to}}
	if _, ok := isImage(at, git); ok {
		oldName, oldMark, oldTag := splitImage(*from)
		newName, newMark, newTag := splitImage(*to)
		switch {
		case oldName == newName && oldMark == newMark && oldTag != newTag:
			out = append(out, swap{oldTag, newTag})
		case oldName != newName && oldMark == newMark && oldTag == newTag:
			out = append(out, swap{oldName, newName})
		}
	}
	return out
}

// scalar is the text of a string, number or boolean; nil for anything else.
func scalar(raw json.RawMessage) *string {
	v, err := decode(raw)
	if err != nil {
		return nil
	}
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		text = strconv.FormatBool(v)
	default:
		return nil
	}
	return &text
}

// replacements change each scalar that has one of the texts.
func replacements(name string, content []byte, key string, all []swap) []edit {
	var out []edit
	for _, e := range entries(content) {
		for i, w := range all {
			if e.value.Kind != yaml.ScalarNode || e.value.Value != w.from {
				continue
			}
			changed, ok := replace(content, e.value, w.to)
			if !ok {
				continue
			}
			rank := 2 - i
			if e.key == key {
				rank += 4
			}
			out = append(out, edit{file: name, line: e.value.Line, content: changed, rank: rank})
		}
	}
	return out
}

// entry is a value of a mapping or a list; key is empty in a list.
type entry struct {
	key            string
	at, value      *yaml.Node
	inBlockMapping bool
}

// entries are all values in a file. A file that cannot be read, as a template may
// be, has none.
func entries(content []byte) []entry {
	var out []entry
	var walk func(n *yaml.Node, depth int)
	walk = func(n *yaml.Node, depth int) {
		if depth > 100 {
			return
		}
		switch n.Kind {
		case yaml.DocumentNode:
			for _, c := range n.Content {
				walk(c, depth+1)
			}
		case yaml.SequenceNode:
			for _, c := range n.Content {
				out = append(out, entry{value: c})
				walk(c, depth+1)
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				out = append(out, entry{n.Content[i].Value, n.Content[i], n.Content[i+1], n.Style&yaml.FlowStyle == 0})
				walk(n.Content[i+1], depth+1)
			}
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(content)))
	for {
		var doc yaml.Node
		if dec.Decode(&doc) != nil {
			return out
		}
		walk(&doc, 0)
	}
}

// replace puts another text in the place of a scalar on one line, in its style.
func replace(content []byte, n *yaml.Node, text string) ([]byte, bool) {
	if n.Anchor != "" || n.Tag != "" && strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") || strings.ContainsAny(text, "\n\r\t") {
		return nil, false
	}
	start, line, ok := offset(content, n)
	if !ok {
		return nil, false
	}
	length, ok := width(line, n)
	if !ok {
		return nil, false
	}
	written := text
	switch n.Style &^ yaml.TaggedStyle {
	case yaml.DoubleQuotedStyle:
		written = strconv.Quote(text)
	case yaml.SingleQuotedStyle:
		written = "'" + strings.ReplaceAll(text, "'", "''") + "'"
	default:
		// A text that would read as something else gets quotes; a number does not.
		if n.Tag == "!!str" && !plain(text) {
			written = strconv.Quote(text)
		}
	}
	return slices.Concat(content[:start], []byte(written), content[start+length:]), true
}

// plain reports whether a text without quotes reads as just that text, under the
// rules of YAML 1.1, too, by which on and yes are truths.
func plain(text string) bool {
	if !plainText.MatchString(text) || slices.Contains(plainWords, strings.ToLower(text)) {
		return false
	}
	var v any
	err := yaml.Unmarshal([]byte(text), &v)
	return err == nil && v == text
}

var (
	plainText  = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*$`)
	plainWords = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)

// offset is where a node begins in the file, and the rest of its line.
func offset(content []byte, n *yaml.Node) (int, string, bool) {
	at := lineStart(content, n.Line)
	line, _, _ := strings.Cut(string(content[at:]), "\n")
	runes := []rune(line)
	if n.Column < 1 || n.Column > len(runes)+1 {
		return 0, "", false
	}
	skip := len(string(runes[:n.Column-1]))
	return at + skip, line[skip:], true
}

func lineStart(content []byte, line int) int {
	at := 0
	for range line - 1 {
		i := strings.IndexByte(string(content[at:]), '\n')
		if i < 0 {
			return len(content)
		}
		at += i + 1
	}
	return at
}

// width is how many bytes a scalar takes on its line; not ok if it takes more than
// one line, or has a tag before it.
func width(line string, n *yaml.Node) (int, bool) {
	switch n.Style &^ yaml.TaggedStyle {
	case yaml.DoubleQuotedStyle:
		for i := 1; i < len(line); i++ {
			switch line[i] {
			case '\\':
				i++
			case '"':
				return i + 1, line[0] == '"'
			}
		}
	case yaml.SingleQuotedStyle:
		for i := 1; i < len(line); i++ {
			if line[i] != '\'' {
				continue
			}
			if i+1 < len(line) && line[i+1] == '\'' {
				i++
				continue
			}
			return i + 1, line[0] == '\''
		}
	case 0:
		return len(n.Value), strings.HasPrefix(line, n.Value)
	}
	return 0, false
}

// removals take out each entry of a block mapping with the key and the value.
func removals(name string, content []byte, key string, git json.RawMessage) []edit {
	var out []edit
	for _, e := range entries(content) {
		var value any
		if e.key != key || !e.inBlockMapping || e.value.Decode(&value) != nil {
			continue
		}
		raw, err := json.Marshal(value)
		if err != nil || !equalJSON(raw, git) {
			continue
		}
		begin, line, ok := offset(content, e.at)
		from := lineStart(content, e.at.Line)
		if !ok || line == "" || strings.TrimSpace(string(content[from:begin])) != "" || e.value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			continue // it is the first of a list's entry, or its end cannot be told
		}
		to := lineStart(content, lastLine(e.value)+1)
		out = append(out, edit{file: name, line: e.at.Line, content: slices.Concat(content[:from], content[to:])})
	}
	return out
}

func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// additions override an image or a replica count in a kustomization that says
// nothing of them yet.
func additions(name string, content []byte, item sources.Item, at string, git, live json.RawMessage) []edit {
	has := func(key string) bool {
		return slices.ContainsFunc(entries(content), func(e entry) bool { return e.key == key && e.at.Column == 1 })
	}
	text, field := "", ""
	if repository, ok := isImage(at, git); ok {
		newName, mark, tag := splitImage(*scalar(live))
		if mark == "" {
			return nil
		}
		field, text = "images", fmt.Sprintf("  - name: %s\n", repository)
		if newName != repository {
			text += fmt.Sprintf("    newName: %s\n", newName)
		}
		if mark == "@" {
			text += fmt.Sprintf("    digest: %s\n", tag)
		} else {
			text += fmt.Sprintf("    newTag: %q\n", tag)
		}
	} else if count := scalar(live); at == ".spec.replicas" && count != nil {
		field, text = "replicas", fmt.Sprintf("  - name: %s\n    count: %s\n", item.ID.Name, *count)
	}
	if field == "" || has(field) {
		return nil
	}
	body := strings.TrimRight(string(content), "\n") + "\n" + field + ":\n" + text
	return []edit{{file: name, line: strings.Count(string(content), "\n") + 1, content: []byte(body), adds: true, rank: -1}}
}
