package manifest

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	yaml2 "go.yaml.in/yaml/v2"
	yaml3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/json"
)

// document is where one document was written, and its text as long as positions
// in it may be asked for.
type document struct {
	line int
	// from is the line on which text begins.
	from int
	text []byte
	// entry is the index in a List plus one, 0 for a document of its own.
	entry int
}

// chunk reads the documents of one chunk and says whether reading goes on.
func (p *parser) chunk(c Chunk) bool {
	if c.bad != "" {
		p.report(c.badLine, 0, c.bad, c.badHint)
	}
	line, any := c.firstContent()
	if !any {
		return true
	}
	if !p.counted(line) {
		return false
	}
	if tokens(c.Text) > maxTokens {
		p.report(line, 0, "the document has too many entries to be read", "split it")
		return true
	}
	if trimmed := bytes.TrimSpace(c.Text); trimmed[0] == '{' && p.jsonStream(c) {
		return true
	}
	value, err := p.decodeYAML(c.Text)
	if err != nil {
		p.reportYAML(c, line, err)
		return true
	}
	p.document(value, document{line: line, from: c.Line, text: c.Text})
	return true
}

// jsonStream reads a chunk as one or more JSON objects. Like kubectl, it leaves
// to YAML what is not JSON after all; it says whether it was.
func (p *parser) jsonStream(c Chunk) bool {
	type part struct {
		value any
		doc   document
		err   error
	}
	var parts []part
	d := stdjson.NewDecoder(bytes.NewReader(c.Text))
	for d.More() {
		var raw stdjson.RawMessage
		if err := d.Decode(&raw); err != nil {
			return false
		}
		start := int(d.InputOffset()) - len(raw)
		line := c.Line + bytes.Count(c.Text[:start], []byte("\n"))
		value, err := decodeJSON(raw)
		parts = append(parts, part{value, document{line: line, from: line, text: raw}, err})
	}
	for i, part := range parts {
		if i > 0 && !p.counted(part.doc.line) {
			break
		}
		if part.err != nil {
			p.reportDuplicates(part.doc.text, part.doc.from, part.doc.line, part.err.Error())
			continue
		}
		p.document(part.value, part.doc)
	}
	return true
}

// decodeJSON is kubectl's decoding: integers stay exact, and keys are compared
// with their case.
func decodeJSON(data []byte) (any, error) {
	var value any
	strict, err := json.UnmarshalStrict(data, &value)
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if len(strict) > 0 {
		return nil, errors.New(strict[0].Error())
	}
	return value, nil
}

// decodeYAML reads one document, never panicking whatever the text is.
func (p *parser) decodeYAML(text []byte) (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			value, err = nil, errors.New("the YAML parser gave up on this document")
		}
	}()
	if p.o.Dialect == Kustomize {
		if err := yaml3.Unmarshal(text, &value); err != nil {
			return nil, err
		}
		return value, nil
	}
	err = yaml2.UnmarshalStrict(text, &value)
	if err == nil {
		return value, nil
	}
	// Strict decoding also refuses a key that overrides one of a merge (<<),
	// which is what merges are for.
	overridden := strings.Contains(err.Error(), "already set in map") && bytes.Contains(text, []byte("<<"))
	if !overridden || len(findDuplicates(text)) > 0 {
		return nil, err
	}
	value = nil
	return value, yaml2.Unmarshal(text, &value)
}

var setTwice = regexp.MustCompile(`line (\d+): key (\w{1,20}) already set in map`)

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// reportYAML tells an error of a YAML library with its place in the file.
func (p *parser) reportYAML(c Chunk, line int, err error) {
	text := err.Error()
	if strings.Contains(text, "already set in map") || strings.Contains(text, "already defined at line") {
		fallback := "a key is set twice"
		if m := setTwice.FindStringSubmatch(text); m != nil {
			// Two spellings of one YAML 1.1 value, such as yes and true.
			n, _ := strconv.Atoi(m[1])
			line, fallback = place(c.Line, n, line), "key "+m[2]+" is set twice, in two spellings"
		}
		p.reportDuplicates(c.Text, c.Line, line, fallback)
		return
	}
	if strings.Contains(text, "invalid map key") {
		// The library's text quotes the key's content, which may be a secret.
		at, column := findOddKey(c.Text)
		p.report(place(c.Line, at, line), column, "a mapping or list is used as a key", "a value that begins with { needs quotes; templates are not expanded here")
		return
	}
	at := line
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		text = text[len(m[0]):]
		// The parser, other than the scanner, counts lines from 0.
		if strings.HasPrefix(text, "did not find expected") {
			n++
		}
		at = min(c.Line+n-1, c.Line+bytes.Count(c.Text, []byte("\n")))
	}
	text = strings.TrimPrefix(text, "yaml: ")
	p.report(at, 0, "is not YAML: "+firstLine(text), yamlHint(text))
}

func yamlHint(text string) string {
	switch {
	case strings.Contains(text, "cannot start any token"):
		return "indent with spaces, not tabs, and quote values that begin with @, ` or %"
	case strings.Contains(text, "mapping values are not allowed"):
		return "quote a value that contains \": \", and check the indentation"
	case strings.Contains(text, "excessive aliasing"):
		return "write the values out instead of nesting aliases"
	}
	return ""
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// place is the line in the file of a line in a text that begins at from, or a
// fallback where the line in the text is unknown.
func place(from, line, fallback int) int {
	if line <= 0 {
		return fallback
	}
	return from + line - 1
}

// reportDuplicates names every key that is set twice.
func (p *parser) reportDuplicates(text []byte, from, line int, fallback string) {
	found := findDuplicates(text)
	if len(found) == 0 {
		p.report(line, 0, fallback, "")
		return
	}
	for _, d := range found {
		p.report(from+d.line-1, d.column, fmt.Sprintf("key %q is already set at line %d", d.key, from+d.first-1), "")
	}
}

// budget bounds the size and depth of a value while aliases are expanded.
type budget struct {
	bytes int
	depth int
}

var (
	errTooLarge = errors.New("the object is too large once its aliases are expanded")
	errTooDeep  = errors.New("the object nests too deep")
)

// plain turns what a YAML library made into what encoding/json would have made,
// with the key conversions of sigs.k8s.io/yaml.
func (b *budget) plain(v any, depth int) (any, error) {
	if depth > b.depth {
		return nil, errTooDeep
	}
	if b.bytes -= 4; b.bytes < 0 {
		return nil, errTooLarge
	}
	switch v := v.(type) {
	case map[any]any:
		return plainMap(b, v, depth)
	case map[string]any:
		return plainMap(b, v, depth)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			var err error
			if out[i], err = b.plain(e, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case string:
		if b.bytes -= len(v); b.bytes < 0 {
			return nil, errTooLarge
		}
	case uint64:
		// Only numbers above those of int64 come as this type, and kubectl makes
		// floating-point numbers of them.
		return float64(v), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errors.New("a number is infinite or not a number, which JSON cannot hold")
		}
	}
	return v, nil
}

func plainMap[K comparable](b *budget, m map[K]any, depth int) (any, error) {
	out := make(map[string]any, len(m))
	for k, e := range m {
		key, err := keyString(k)
		if err != nil {
			return nil, err
		}
		if b.bytes -= len(key); b.bytes < 0 {
			return nil, errTooLarge
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("key %q is set twice, once in quotes", key)
		}
		if out[key], err = b.plain(e, depth+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keyString is the conversion of keys that sigs.k8s.io/yaml does.
func keyString(key any) (string, error) {
	switch k := key.(type) {
	case string:
		return k, nil
	case int:
		return strconv.Itoa(k), nil
	case int64:
		return strconv.FormatInt(k, 10), nil
	case bool:
		return strconv.FormatBool(k), nil
	case float64:
		switch s := strconv.FormatFloat(k, 'g', -1, 32); s {
		case "+Inf":
			return ".inf", nil
		case "-Inf":
			return "-.inf", nil
		case "NaN":
			return ".nan", nil
		default:
			return s, nil
		}
	}
	return "", errors.New("a key is neither text nor a number")
}
