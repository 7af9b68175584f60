// Package render turns a folder of a snapshot into the items that an environment
// asks for: plain manifests, or a kustomization.
//
// What a repository says is data, never an instruction: nothing outside the
// snapshot is read, nothing is fetched and no program is run because of it.
// Kustomize, which could do all of that, runs in a child process made of our own
// binary, which has no credentials, no network and no files but those that it
// asks the parent for. See docs on ChildMain.
//
// A Renderer knows no cluster: what it needs to know of one, which kinds live in
// namespaces, comes with the request as a value.
package render

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// ErrEmpty is the error of an environment that renders to nothing at all. It is
// an error because obeying it would delete everything the environment has.
var ErrEmpty = errors.New("renders to nothing; refusing, since that would delete all that it has")

// Options bound what a Renderer does. The zero value has the defaults.
type Options struct {
	// Manifest bounds the files, and may hold the cache of parsed files. Without
	// one the renderer makes its own, of 32 MiB.
	Manifest manifest.Options
	// CacheBytes bounds what is remembered of earlier renders. Default: 64 MiB.
	CacheBytes int
	// Builds is how many kustomize builds run at once. Default: one per core.
	Builds int
	// Timeout bounds one kustomize build. Default: one minute.
	Timeout time.Duration
	// MemoryBytes bounds the memory of one kustomize build. Default: 512 MiB.
	MemoryBytes int64
	// ReadBytes bounds what one kustomize build reads. Default: 128 MiB.
	ReadBytes int64
	// Executable is started as the child. Default: the running binary, whose main
	// must call IsChild and ChildMain first.
	Executable string
}

func (o Options) withDefaults() Options {
	if o.Manifest.Cache == nil {
		o.Manifest.Cache = manifest.NewCache(32 << 20)
	}
	o.Manifest.MaxFileBytes = cmp.Or(o.Manifest.MaxFileBytes, 4<<20)
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	o.Builds = cmp.Or(o.Builds, runtime.NumCPU())
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 512<<20)
	o.ReadBytes = cmp.Or(o.ReadBytes, 128<<20)
	return o
}

// Request says what to render.
type Request struct {
	Tree sources.Tree
	// Path is the folder, from the root of the tree.
	Path string
	// DefaultNamespace is where objects go that name no namespace and need one.
	// Empty: they stay without.
	DefaultNamespace string
	// CreateNamespace adds DefaultNamespace to the items.
	CreateNamespace bool
	// Scopes tells the kinds that live in namespaces. Default: BuiltinScopes.
	Scopes Scopes
}

// Result is what a folder renders to.
type Result struct {
	// Items are sorted by identity.
	Items []sources.Item
	// Inputs is everything that the render read or found missing. While they
	// hold, rendering again gives the same items.
	Inputs Inputs
	// Cached says that nothing had to be rendered.
	Cached bool
}

// Renderer renders, and remembers what it rendered. It is safe for concurrent
// use.
type Renderer struct {
	o      Options
	builds chan struct{}
	cache  *cache
}

// New makes a Renderer. It starts nothing.
func New(o Options) *Renderer {
	o = o.withDefaults()
	return &Renderer{o: o, builds: make(chan struct{}, o.Builds), cache: newCache(o.CacheBytes)}
}

// Render renders a folder. An error of the repository's making is a
// sources.Problems with everything that is wrong, or wraps ErrEmpty; any other
// error says that the folder could not be rendered now. With an error there are
// never items.
func (r *Renderer) Render(ctx context.Context, req Request) (Result, error) {
	if req.Scopes == nil {
		req.Scopes = BuiltinScopes
	}
	req.Path = path.Clean(req.Path)
	if hit, err := r.cache.get(req); err != nil || hit.Cached {
		return hit, err
	}
	rec := newRecorder(req.Tree, r.o)
	items, err := r.load(ctx, rec, req.Path)
	if problem := new(sources.Problem); errors.As(err, problem) && !errors.As(err, new(sources.Problems)) {
		err = sources.Problems{*problem}
	}
	if err != nil {
		return Result{}, err
	}
	if len(items) == 0 {
		return Result{}, fmt.Errorf("%s: %w", req.Path, ErrEmpty)
	}
	asked := &askedScopes{Scopes: req.Scopes}
	req.Scopes = asked
	items, problems := finish(items, req)
	if err := problems.Err(); err != nil {
		return Result{}, err
	}
	result := Result{Items: items, Inputs: rec.inputs()}
	r.cache.put(req, result, asked.answers)
	return result, nil
}

// load reads the items of a folder as they are written or built.
func (r *Renderer) load(ctx context.Context, rec *recorder, dir string) ([]sources.Item, error) {
	if err := checkFolder(rec.tree, dir); err != nil {
		return nil, err
	}
	names, err := kustomizationsIn(rec, dir)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if err := rec.content(dir); err != nil {
			return nil, err
		}
		return manifest.Load(rec.tree, dir, r.o.Manifest)
	}
	return r.kustomize(ctx, rec, dir)
}

// kustomize loads a kustomization, without kustomize where that gives the same.
func (r *Renderer) kustomize(ctx context.Context, rec *recorder, dir string) ([]sources.Item, error) {
	s := &scanner{rec: rec}
	if err := s.scan(dir); err != nil {
		return nil, err
	}
	if files, ok := s.listed(dir); ok {
		items, ok, err := r.loadListed(rec, files)
		if ok || err != nil {
			return items, err
		}
	}
	return r.build(ctx, rec, s, dir)
}

func checkFolder(tree sources.Tree, dir string) error {
	if !fs.ValidPath(dir) {
		return sources.Problems{{File: dir, Message: "the environment's path leads out of the repository", Hint: "paths begin at the root of the repository"}}
	}
	info, err := tree.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint, err := manifest.Missing(tree, dir)
		if err != nil {
			return fmt.Errorf("look for %s: %w", dir, err)
		}
		return sources.Problems{{File: dir, Message: "the environment's path does not exist", Hint: hint}}
	case err != nil:
		return fmt.Errorf("stat %s: %w", dir, err)
	case !info.IsDir():
		return sources.Problems{{File: dir, Message: "the environment's path is a file, not a folder", Hint: "name the folder that holds it"}}
	}
	return nil
}
