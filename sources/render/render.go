// Package render turns a folder of a snapshot into the items that an environment
// asks for: plain manifests, a kustomization or a Helm chart, changed by what
// the environment's spec says differs there.
//
// What a repository says is data, never an instruction: nothing outside the
// snapshot is read, nothing is fetched and no program is run because of it, but
// for charts and keys that the daemon's configuration allows. Kustomize and
// Helm, which could do all of that, run in a child process made of our own
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

	"github.com/holdfast-gitops/holdfast/internal/redact"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/sops"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
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
	// Builds is how many children build at once. Default: one per core.
	Builds int
	// Timeout bounds one build. Default: one minute.
	Timeout time.Duration
	// MemoryBytes bounds the memory of one build. Default: 512 MiB.
	MemoryBytes int64
	// ReadBytes bounds what one build reads. Default: 128 MiB.
	ReadBytes int64
	// Charts fetches charts that a spec names by repository and version. Without
	// one, only charts of the snapshot are rendered.
	Charts Charts
	// Redactor is told every value that was decrypted. Default: one of its own.
	Redactor *redact.Redactor
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
	if o.Redactor == nil {
		o.Redactor = new(redact.Redactor)
	}
	return o
}

// Request says what to render.
type Request struct {
	Tree sources.Tree
	// Path is the folder, from the root of the tree.
	Path string
	// Kind says how the folder is read. Default: what is in it decides.
	Kind environment.RenderKind
	// Spec is where the environment is declared, for problems of what it says.
	Spec sources.Origin
	// DefaultNamespace is where objects go that name no namespace and need one.
	// Empty: they stay without.
	DefaultNamespace string
	// CreateNamespace adds DefaultNamespace to the items.
	CreateNamespace bool
	// Labels and Annotations are added to the metadata of every object.
	Labels, Annotations map[string]string
	// Images, Replicas and Patches change the objects, as kustomize does it.
	Images   []environment.Image
	Replicas []environment.Replica
	Patches  []environment.Patch
	// Release is the name of a chart's release, if Helm says no other.
	Release string
	// Helm says which chart is rendered, and with which values.
	Helm *environment.Helm
	// Values are what ${name} stands for in the objects; nil leaves them alone.
	Values substitute.Values
	// Capabilities tells what charts see of the cluster. It is asked for charts
	// only. Without it they see what Helm says, or DefaultKubeVersion.
	Capabilities func(context.Context) (Capabilities, error)
	// Decrypter reads encrypted files. Without one they are problems.
	Decrypter Decrypter
	// Scopes tells the kinds that live in namespaces. Default: BuiltinScopes.
	Scopes Scopes
}

// For is the request of a spec: everything but the tree, and what depends on
// the target and the daemon's configuration.
func For(spec environment.Spec) Request {
	return Request{
		Path: spec.Path, Kind: spec.Render, Spec: sources.Origin{File: spec.File, Line: spec.Line},
		DefaultNamespace: spec.Namespace, CreateNamespace: spec.CreateNamespace,
		Labels: spec.CommonLabels, Annotations: spec.CommonAnnotations,
		Images: spec.Images, Replicas: spec.Replicas, Patches: spec.Patches,
		Release: spec.Name, Helm: spec.Helm, Values: spec.Values,
	}
}

// Decrypter decrypts files that are encrypted with SOPS.
type Decrypter interface {
	// Decrypt gives the content of a file, and the values that were secret in it.
	// Its error is a sources.Problem where the file is to blame.
	Decrypt(ctx context.Context, file string, data []byte) (sops.Plain, error)
	// ID tells one set of keys from another.
	ID() string
}

// Result is what a folder renders to.
type Result struct {
	// Items are sorted by identity.
	Items []sources.Item
	// Digest tells one set of items from another. It is made of the digests of
	// the items, and like those of sensitive ones is not for printing.
	Digest string
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
	if hit, err := r.cache.get(ctx, req); err != nil || hit.Cached {
		return hit, err
	}
	rec := newRecorder(req.Tree, r.o)
	rec.decrypter, rec.ctx = req.Decrypter, ctx
	items, err := r.items(ctx, rec, req)
	err = r.scrubbed(err, rec)
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
	result := Result{Items: items, Digest: digest(items), Inputs: rec.inputs()}
	r.cache.put(req, result, asked.answers, rec.capabilities)
	return result, nil
}

// items reads a folder and applies what the spec says differs here.
func (r *Renderer) items(ctx context.Context, rec *recorder, req Request) ([]sources.Item, error) {
	kind, err := r.kind(rec, req)
	if err != nil {
		return nil, err
	}
	var items []sources.Item
	switch kind {
	case environment.RenderHelm:
		items, err = r.helm(ctx, rec, req)
	case environment.RenderKustomize:
		items, err = r.kustomize(ctx, rec, req)
	default:
		items, err = r.plain(rec, req)
	}
	if err != nil {
		return nil, err
	}
	// Before parameters are put in: nothing that was decrypted takes part in that.
	items = rec.marked(items)
	if kind != environment.RenderHelm {
		if items, err = r.substituted(items, req.Values); err != nil {
			return nil, err
		}
	}
	items, err = r.override(ctx, rec, req, items)
	return rec.marked(items), err
}

// kind says how a folder is read, and that it can be.
func (r *Renderer) kind(rec *recorder, req Request) (environment.RenderKind, error) {
	if req.Helm != nil && req.Helm.Repo != "" {
		return environment.RenderHelm, nil
	}
	if err := checkFolder(rec.tree, req.Path); err != nil {
		return "", err
	}
	names, err := kustomizationsIn(rec, req.Path)
	if err != nil {
		return "", err
	}
	chart, err := rec.stat(path.Join(req.Path, chartFile))
	if err != nil {
		return "", err
	}
	refuse := func(message, hint string) (environment.RenderKind, error) {
		return "", sources.Problems{{File: req.Path, Message: message, Hint: hint}}
	}
	wanted := req.Kind
	if req.Helm != nil && (wanted == "" || wanted == environment.RenderAuto) {
		wanted = environment.RenderHelm
	}
	if req.Helm != nil && wanted != environment.RenderHelm {
		return refuse("is not rendered as a chart, since the spec says render: "+string(wanted)+", and yet it has helm", "take out one of the two")
	}
	switch wanted {
	case environment.RenderPlain:
		return wanted, nil
	case environment.RenderKustomize:
		if len(names) == 0 {
			return refuse("has no kustomization, and the spec says render: kustomize", "add a kustomization.yaml, or leave render out")
		}
		return wanted, nil
	case environment.RenderHelm:
		if chart != file {
			return refuse("has no "+chartFile+", and the spec asks for a Helm chart", "let path be the chart's folder, or set helm.repo")
		}
		return wanted, nil
	}
	switch {
	case len(names) > 0:
		return environment.RenderKustomize, nil
	case chart == file:
		return environment.RenderHelm, nil
	}
	return environment.RenderPlain, nil
}

// plain reads the manifests of a folder and those below.
func (r *Renderer) plain(rec *recorder, req Request) ([]sources.Item, error) {
	if err := rec.content(req.Path); err != nil {
		return nil, err
	}
	return manifest.Load(rec.tree, req.Path, r.reading(rec, req))
}

// reading is how manifests are read for a request.
func (r *Renderer) reading(rec *recorder, req Request) manifest.Options {
	o := r.o.Manifest
	o.Decrypt, o.References = rec.decryption(), req.Values != nil
	return o
}

// kustomize loads a kustomization, without kustomize where that gives the same.
func (r *Renderer) kustomize(ctx context.Context, rec *recorder, req Request) ([]sources.Item, error) {
	s := &scanner{rec: rec}
	if err := s.scan(req.Path); err != nil {
		return nil, err
	}
	o := r.reading(rec, req)
	if files, ok := s.listed(req.Path); ok {
		items, ok, err := r.loadListed(rec, files, o)
		if err != nil {
			return nil, err
		}
		if ok {
			if items, ok, err = r.light(ctx, rec, s.folders[req.Path], items); ok || err != nil {
				return items, err
			}
		}
	}
	return r.build(ctx, rec, s, req.Path, o)
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
