package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/konfig"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// maxKustomizations bounds the kustomizations of one render, maxNesting how deep
// they refer to each other.
const (
	maxKustomizations = 2000
	maxNesting        = 50
)

// scanner reads the kustomizations that a folder refers to, and reports what in
// them is refused or cannot work. It is for people: an error here names the line
// that kustomize's would not. That nothing is fetched or run does not depend on
// it, the child sees to that.
type scanner struct {
	rec      *recorder
	folders  map[string]*kustomization
	problems sources.Problems
}

// kustomization is one kustomization file.
type kustomization struct {
	dir, file string
	component bool
	// listOnly says that it does nothing but list resources.
	listOnly  bool
	resources []string
	// light says that beside listing it changes at most images and replicas.
	light    bool
	images   []environment.Image
	replicas []environment.Replica
}

// use says what a reference's target is needed as.
type use int

const (
	asResource use = iota
	asComponent
	asPlugin
	asFile
)

// scan reads the kustomization of a folder and all that it refers to.
func (s *scanner) scan(dir string) error {
	s.folders = map[string]*kustomization{}
	if err := s.folder(dir, nil, asResource); err != nil {
		return err
	}
	manifest.SortProblems(s.problems)
	return s.problems.Err()
}

// kustomizationsIn are the files in a folder that kustomize takes for its own.
func kustomizationsIn(rec *recorder, dir string) ([]string, error) {
	var found []string
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		kind, err := rec.stat(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if kind == file {
			found = append(found, path.Join(dir, name))
		}
	}
	return found, nil
}

// folder reads one kustomization. Stack is the folders that lead to it.
func (s *scanner) folder(dir string, stack []string, as use) error {
	if s.folders[dir] != nil {
		return nil
	}
	names, err := kustomizationsIn(s.rec, dir)
	if err != nil {
		return err
	}
	if len(names) != 1 {
		s.problems = append(s.problems, sources.Problem{
			File: dir, Message: "has several kustomization files: " + strings.Join(names, ", "), Hint: "keep one of them",
		})
		return nil
	}
	k := &kustomization{dir: dir, file: names[0], listOnly: true, light: true}
	s.folders[dir] = k
	if len(s.folders) > maxKustomizations || len(stack) > maxNesting {
		return sources.Problems{{File: k.file, Message: "too many kustomizations, or too deeply nested"}}
	}
	data, err := s.rec.read(k.file)
	if err != nil {
		return err
	}
	root := s.parse(k.file, data)
	if root == nil {
		k.listOnly, k.light = false, false
		return nil
	}
	r := &reader{s: s, k: k, stack: append(stack[:len(stack):len(stack)], dir), as: as}
	return r.fields(root)
}

func (s *scanner) problem(k *kustomization, n *yaml.Node, message, hint string) {
	s.problems = append(s.problems, sources.Problem{
		File: k.file, Line: n.Line, Column: n.Column, Message: message, Hint: hint,
	})
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse is the mapping that a kustomization file consists of.
func (s *scanner) parse(name string, data []byte) (root *yaml.Node) {
	p := sources.Problem{File: name}
	defer func() {
		if recover() != nil {
			root, p.Message = nil, "the YAML parser gave up on this file"
		}
		if p.Message != "" {
			s.problems = append(s.problems, p)
		}
	}()
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		p.Message = err.Error()
		if m := yamlLine.FindStringSubmatch(p.Message); m != nil {
			p.Message = p.Message[len(m[0]):]
			p.Line, _ = strconv.Atoi(m[1])
			// The parser, other than the scanner, counts lines from 0.
			if p.Line > 0 && strings.HasPrefix(p.Message, "did not find expected") {
				p.Line++
			}
		}
		p.Message = "is not YAML: " + p.Message
		return nil
	}
	if len(doc.Content) == 0 {
		p.Message, p.Hint = "is empty", "list the manifests under resources"
		return nil
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		p.Line, p.Message = doc.Content[0].Line, "is not a mapping"
		return nil
	}
	return doc.Content[0]
}

// errRefused marks a reference that was reported.
var errRefused = errors.New("refused")

// target resolves a reference to a path of the tree, or reports why it is
// refused.
func (r *reader) target(n *yaml.Node, field, ref string) (string, pathKind, error) {
	refuse := func(message, hint string) (string, pathKind, error) {
		r.s.problem(r.k, n, field+": "+message, hint)
		return "", absent, errRefused
	}
	if isRemote(ref) {
		return refuse(fmt.Sprintf("%q is remote, and nothing is fetched", ref), "copy it into the repository and refer to the copy")
	}
	if path.IsAbs(ref) {
		return refuse(fmt.Sprintf("%q is an absolute path", ref), "paths are relative to the kustomization")
	}
	full := path.Join(r.k.dir, ref)
	if !fs.ValidPath(full) {
		return refuse(fmt.Sprintf("%q leads out of the repository", ref), "copy it into the repository")
	}
	kind, err := r.s.rec.stat(full)
	if err != nil {
		return "", absent, err
	}
	if kind != absent {
		return full, kind, nil
	}
	if hostLike.MatchString(ref) {
		return refuse(fmt.Sprintf("%q does not exist, and looks remote: nothing is fetched", ref), "copy it into the repository and refer to the copy")
	}
	hint, err := manifest.Missing(r.s.rec.tree, full)
	if err != nil {
		return "", absent, err
	}
	return refuse(fmt.Sprintf("%q does not exist", ref), hint)
}

var (
	remote   = regexp.MustCompile(`(?i)^(?:https?:|ssh:|git:|file:|git::|github\.com[/:]|[a-z][a-z0-9-]*@[^/]*[/:])|://|[?&](?:ref|version|timeout|submodules)=`)
	hostLike = regexp.MustCompile(`(?i)^[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}[:/].`)
)

// isRemote says whether kustomize would take a reference for something to fetch.
func isRemote(ref string) bool { return remote.MatchString(ref) }

// descend visits the kustomization in a folder that another one refers to.
func (r *reader) descend(n *yaml.Node, field, dir string, as use) error {
	for _, visited := range r.stack {
		if visited == dir || dir == "." || strings.HasPrefix(visited, dir+"/") {
			r.s.problem(r.k, n, field+": "+dir+" is this kustomization or contains it, or one that leads to it", "a kustomization cannot include itself")
			return nil
		}
	}
	names, err := kustomizationsIn(r.s.rec, dir)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		r.s.problem(r.k, n, field+": the folder "+dir+" has no kustomization", "add one to it, or list its files")
		return nil
	}
	if err := r.s.folder(dir, r.stack, as); err != nil {
		return err
	}
	if k := r.s.folders[dir]; k != nil && k.component != (as == asComponent) {
		want := "resources"
		if k.component {
			want = "components"
		}
		r.s.problem(r.k, n, field+": "+dir+" belongs under "+want, "")
	}
	return nil
}

// listed is the files that a folder's kustomization stands for, if all that it
// refers to do nothing but list resources, and itself at most changes images and
// replicas beside.
func (s *scanner) listed(dir string) ([]string, bool) {
	var files []string
	var expand func(dir string) bool
	expand = func(at string) bool {
		k := s.folders[at]
		if k == nil || !k.listOnly && (at != dir || !k.light) || k.component || len(k.resources) == 0 {
			return false
		}
		for _, full := range k.resources {
			if s.folders[full] == nil {
				files = append(files, full)
			} else if !expand(full) {
				return false
			}
			if len(files) > maxReads {
				return false
			}
		}
		return true
	}
	if !expand(dir) {
		return nil, false
	}
	return slices.Clip(files), true
}
