package render

import (
	"path"
	"regexp"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

var (
	// levels name a file or folder that kustomize was at. What stands before the
	// last of them only says how it got there.
	levels = regexp.MustCompile(`(?:recursed (?:accumulation of|merging from) path|couldn't make target for path|accumulating resources from|merging resources from) '([^']*)':?`)
	// quoted is where an error carries a whole object, patch or plugin
	// configuration, any of which may hold a secret.
	quoted = regexp.MustCompile("(?s)(?: with config: )?`.*`|\\[patch: \".*\"\\]| in object .*")
	// yamlLike is a line of an object that is quoted in yet another way.
	yamlLike = regexp.MustCompile(`^\s*(?:- )*["']?[\w./-]+["']?:(?:\s|$)|^\s*- |^\s*[{}\[\]]`)
)

// explain makes a problem of an error of kustomize: without the paths of the
// child, without the levels that say nothing, and with the file that it is most
// likely about.
func explain(text, kustomization string, rec *recorder) sources.Problem {
	text = strings.ReplaceAll(text, childRoot+"/", "")
	text = strings.ReplaceAll(text, childRoot, "the repository's root")
	text = unquoted(text)
	p := sources.Problem{File: kustomization}
	for _, m := range levels.FindAllStringSubmatch(text, -1) {
		if found := mentioned(m[1], path.Dir(p.File), rec); found != "" {
			p.File = found
		}
	}
	if all := levels.FindAllStringIndex(text, -1); len(all) > 0 {
		text = text[all[len(all)-1][1]:]
	}
	p.Message = "kustomize: " + strings.Join(strings.Fields(text), " ")
	return p
}

// better is the problems that manifest finds in the file that kustomize failed
// on, which have lines, or else the one of kustomize.
func better(p sources.Problem, rec *recorder, o manifest.Options) sources.Problems {
	if strings.Contains(strings.ToLower(path.Base(p.File)), "kustomization") {
		return sources.Problems{p}
	}
	data, err := rec.read(p.File)
	if err != nil {
		return sources.Problems{p}
	}
	o.Dialect = manifest.Kustomize
	if _, found := manifest.Parse(p.File, data, o); len(found) > 0 {
		return found
	}
	return sources.Problems{p}
}

// unquoted is an error without the objects that it quotes.
func unquoted(text string) string {
	text = quoted.ReplaceAllString(text, " (…)")
	var lines []string
	for line := range strings.Lines(text) {
		if len(lines) == 0 || !yamlLike.MatchString(line) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, " ")
}

// mentioned is the file that a path in an error stands for: itself, or the
// kustomization in it.
func mentioned(name, dir string, rec *recorder) string {
	for _, full := range []string{path.Clean(name), path.Join(dir, name)} {
		switch kind, err := rec.stat(full); {
		case err != nil:
		case kind == file:
			return full
		case kind == folder:
			if names, err := kustomizationsIn(rec, full); err == nil && len(names) > 0 {
				return names[0]
			}
		}
	}
	return ""
}
