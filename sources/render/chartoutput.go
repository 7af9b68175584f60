package render

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// chartOutput makes items and problems of what a chart gives.
type chartOutput struct {
	c *conversation
	// dir is the chart's folder, or the name that stands for an archive.
	dir       string
	archive   bool
	skipHooks bool
}

// file is the path of a chart's file. Helm names it by the chart, not by the
// folder.
func (o *chartOutput) file(name string) string {
	_, rest, _ := strings.Cut(name, "/")
	return path.Join(o.dir, rest)
}

func (o *chartOutput) item(payload []byte) error {
	var t rendered
	if err := json.Unmarshal(payload, &t); err != nil {
		return fmt.Errorf("decode a rendered template: %w", err)
	}
	read := manifest.Rendered
	if t.CRD {
		read = asWritten
	}
	items, problems := read(o.file(t.Template), LayerHelm, []byte(t.Text), o.c.o)
	o.c.problems = append(o.c.problems, problems...)
	for _, item := range items {
		keep, problem := hook(item, o.skipHooks)
		if problem != nil {
			o.c.problems = append(o.c.problems, *problem)
		}
		if keep {
			o.c.items = append(o.c.items, item)
		}
	}
	return nil
}

// asWritten reads a file of a chart that is no template, and has its lines.
func asWritten(name, layer string, data []byte, o manifest.Options) ([]sources.Item, sources.Problems) {
	items, problems := manifest.Parse(name, data, o)
	for i := range items {
		items[i].Origin.Layer = layer
	}
	return items, problems
}

var (
	// templateReason is what is wrong, behind all that led there.
	templateReason = regexp.MustCompile(`(?s)(?:execution error|parse error) at \([^)]*\): (.*)$|(?:^|.*\s)(at <[^<>\n]*>:\s.*)$`)
	// templatePlace is where Helm says that a template failed.
	templatePlace = regexp.MustCompile(`([\w.-]+/(?:[\w./-]+/)?templates/[\w./-]+):(\d+)(?::(\d+))?`)
	// schemaFault is one line of what a schema says about values.
	schemaFault = regexp.MustCompile(`(?m)^\s*- at '([^']*)': (.+)$`)
	spaces      = regexp.MustCompile(`\s+`)
)

// maxReason bounds what a chart may make an error say.
const maxReason = 600

// failed makes problems of what the child says.
func (o *chartOutput) failed(text string) error {
	var f chartFailure
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return sources.Problems{{File: o.c.blamed, Message: "helm: " + reason(text)}}
	}
	p := sources.Problem{File: o.c.blamed, Message: f.Message, Hint: f.Hint}
	if f.File != "" {
		p.File = o.file(f.File)
	}
	switch f.Kind {
	case failureSchema:
		return o.schema(f)
	case failureTemplate:
		// The last place is the innermost.
		if all := templatePlace.FindAllStringSubmatch(f.Message, -1); len(all) > 0 {
			m := all[len(all)-1]
			p.File = o.file(m[1])
			p.Line, _ = strconv.Atoi(m[2])
			p.Column, _ = strconv.Atoi(m[3])
		}
		text := f.Message
		if m := templateReason.FindStringSubmatch(text); m != nil {
			text = m[1] + m[2]
		}
		p.Message = "helm: " + reason(text)
	default:
		p.Message = reason(p.Message)
	}
	return sources.Problems{p}
}

// schema is a problem for each value that a chart's schema refuses.
func (o *chartOutput) schema(f chartFailure) error {
	var problems sources.Problems
	for _, m := range schemaFault.FindAllStringSubmatch(f.Message, -1) {
		field := "the values are"
		if m[1] != "" {
			field = "the value " + strings.ReplaceAll(strings.TrimPrefix(m[1], "/"), "/", ".") + " is"
		}
		problems = append(problems, sources.Problem{
			File: path.Join(o.dir, "values.schema.json"), Message: field + " refused by the chart's schema: " + reason(m[2]),
		})
	}
	// The library's order is that of a map.
	slices.SortFunc(problems, func(a, b sources.Problem) int { return strings.Compare(a.Message, b.Message) })
	if len(problems) == 0 {
		return sources.Problems{{File: path.Join(o.dir, "values.schema.json"), Message: "the values are refused by the chart's schema: " + reason(f.Message)}}
	}
	return problems
}

// reason is a text of one line and bounded length.
func reason(text string) string {
	text = strings.TrimSpace(spaces.ReplaceAllString(text, " "))
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + " …"
	}
	return text
}
