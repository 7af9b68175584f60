package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"

	"github.com/holdfast-gitops/holdfast/sources"
)

// IgnoreFile holds, in the syntax of .gitignore, what a folder's manifests are
// not. It counts for its folder and all below.
const IgnoreFile = ".holdfastignore"

// maxFolders bounds how deep folders nest.
const maxFolders = 64

// kustomizations are the names by which kustomize knows its file.
var kustomizations = map[string]bool{
	"kustomization.yaml": true, "kustomization.yml": true, "Kustomization": true,
}

// IsManifest says whether a file's name is that of a manifest.
func IsManifest(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// Load reads every *.yaml, *.yml and *.json of a folder and the folders below,
// sorted. Files and folders whose name begins with a dot are left out, as are
// those that a .holdfastignore names. Its error is a sources.Problems with
// everything that is wrong, and then no items come back.
func Load(tree sources.Tree, dir string, o Options) ([]sources.Item, error) {
	l := &loader{tree: tree, o: o.withDefaults()}
	if err := l.folder(dir, nil, nil); err != nil {
		return nil, err
	}
	return l.result()
}

// LoadFiles reads the files given, whatever their names.
func LoadFiles(tree sources.Tree, files []string, o Options) ([]sources.Item, error) {
	l := &loader{tree: tree, o: o.withDefaults()}
	for _, file := range files {
		if err := l.file(file); err != nil {
			return nil, err
		}
	}
	return l.result()
}

type loader struct {
	tree     sources.Tree
	o        Options
	items    []sources.Item
	problems sources.Problems
}

func (l *loader) result() ([]sources.Item, error) {
	if len(l.problems) > 0 {
		// A file that is listed twice has each of its problems once.
		SortProblems(l.problems)
		return nil, slices.Compact(l.problems)
	}
	SortItems(l.items)
	return l.items, nil
}

func (l *loader) problem(file, message, hint string) {
	l.problems = append(l.problems, sources.Problem{File: file, Message: message, Hint: hint})
}

// folder reads a folder. Parts is its path below the one that was asked for,
// which is what patterns are matched against.
func (l *loader) folder(dir string, parts []string, ignored []gitignore.Pattern) error {
	if len(parts) > maxFolders {
		l.problem(dir, "nests too deep", "")
		return nil
	}
	entries, err := l.tree.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	patterns, err := l.patterns(dir, parts)
	if err != nil {
		return err
	}
	// A fresh slice: sibling folders must not see each other's patterns.
	ignored = append(ignored[:len(ignored):len(ignored)], patterns...)
	matcher := gitignore.NewMatcher(ignored)
	for _, e := range entries {
		if name := e.Name(); name == "Chart.yaml" && !matcher.Match(append(parts[:len(parts):len(parts)], name), false) {
			l.problem(path.Join(dir, name), "is a Helm chart inside a folder of plain manifests",
				"let the environment's path be the chart's folder, or list this one in "+IgnoreFile)
			return nil
		}
	}
	for _, e := range entries {
		name := e.Name()
		below := append(parts[:len(parts):len(parts)], name)
		if strings.HasPrefix(name, ".") || matcher.Match(below, e.IsDir()) {
			continue
		}
		if err := l.entry(path.Join(dir, name), e, below, ignored); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) entry(full string, e fs.DirEntry, parts []string, ignored []gitignore.Pattern) error {
	switch {
	case e.IsDir():
		return l.folder(full, parts, ignored)
	case e.Type()&fs.ModeSymlink != 0:
		return l.link(full)
	case len(parts) > 1 && kustomizations[e.Name()]:
		l.problem(full, "is a kustomization inside a folder of plain manifests",
			"let the environment's path be a folder with a kustomization, or list this one in "+IgnoreFile)
	case kustomizations[e.Name()]:
		// The folder is read as plain files although it is a kustomization.
	case IsManifest(e.Name()):
		return l.file(full)
	}
	return nil
}

// link reads a file behind a symbolic link, which the tree follows inside the
// snapshot. A folder behind one is not visited, as kubectl does not; but what is
// behind it must not be missing without a word.
func (l *loader) link(full string) error {
	info, err := l.tree.Stat(full)
	switch {
	case err == nil && info.IsDir():
		l.problem(full, "is a symbolic link to a folder, which is not followed", "put the folder itself here, or list the link in "+IgnoreFile)
	case !IsManifest(full):
	case err != nil:
		l.problem(full, "is a symbolic link that leads to no file of the repository", "")
	default:
		return l.file(full)
	}
	return nil
}

func (l *loader) patterns(dir string, domain []string) ([]gitignore.Pattern, error) {
	data, err := l.tree.ReadFile(path.Join(dir, IgnoreFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path.Join(dir, IgnoreFile), err)
	}
	var patterns []gitignore.Pattern
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		patterns = append(patterns, gitignore.ParsePattern(line, domain))
	}
	return patterns, nil
}

// file reads one file, from the cache where its content was seen before.
func (l *loader) file(file string) error {
	id, err := l.tree.ContentID(file)
	if err != nil {
		return fmt.Errorf("identify %s: %w", file, err)
	}
	key := cacheKey{content: id, path: file, dialect: l.o.Dialect, references: l.o.References}
	if items, ok := l.o.Cache.get(key); ok {
		l.items = append(l.items, items...)
		return nil
	}
	info, err := l.tree.Stat(file)
	if err != nil {
		return fmt.Errorf("stat %s: %w", file, err)
	}
	if info.Size() > l.o.MaxFileBytes {
		l.problem(file, tooLarge(info.Size(), l.o.MaxFileBytes), "split it into several files")
		return nil
	}
	data, err := l.tree.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	data, encrypted, err := l.decrypted(file, data)
	if err != nil || data == nil {
		return err
	}
	items, problems := Parse(file, data, l.o)
	if len(problems) > 0 {
		l.problems = append(l.problems, problems...)
		return nil
	}
	if encrypted {
		for i := range items {
			items[i].Sensitive = true
		}
	} else {
		l.o.Cache.put(key, items)
	}
	l.items = append(l.items, items...)
	return nil
}

// decrypted is the content of a file without encryption, nil if that was a
// problem.
func (l *loader) decrypted(file string, data []byte) (plain []byte, encrypted bool, err error) {
	if l.o.Decrypt == nil {
		return data, false, nil
	}
	plain, encrypted, err = l.o.Decrypt(file, data)
	var p sources.Problem
	if errors.As(err, &p) {
		l.problems = append(l.problems, p)
		return nil, false, nil
	}
	if encrypted && err == nil && plain == nil {
		plain = []byte{}
	}
	return plain, encrypted, err
}
