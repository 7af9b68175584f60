package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/internal/redact"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/charts"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/render"
	"github.com/holdfast-gitops/holdfast/sources/sops"
)

// newRenderer makes the renderer that all environments share. Secrets is told
// what it decrypts.
func newRenderer(cfg config.Config, secrets *redact.Redactor) (*render.Renderer, error) {
	o := render.Options{Redactor: secrets}
	if len(cfg.Charts.Registries) > 0 {
		var registries []charts.Registry
		for _, r := range cfg.Charts.Registries {
			registries = append(registries, charts.Registry{URL: r.URL, Username: r.Username, PasswordFile: r.PasswordFile, Insecure: r.Insecure})
		}
		store, err := charts.Open(charts.Options{Dir: filepath.Join(cfg.DataDir, "cache", "charts"), Registries: registries})
		if err != nil {
			return nil, fmt.Errorf("charts: %w", err)
		}
		o.Charts = store
	}
	return render.New(o), nil
}

// request is what a spec asks to be rendered, but for the tree.
func (g *generation) request(c config.Source, spec environment.Spec) (render.Request, error) {
	t := g.targets[spec.Target]
	req := render.For(spec)
	req.Scopes = t
	if req.DefaultNamespace == "" {
		req.DefaultNamespace = t.namespace
	}
	req.Capabilities = func(context.Context) (render.Capabilities, error) {
		version, apis, err := t.Serves()
		return render.Capabilities{KubeVersion: version, APIVersions: apis}, err
	}
	if spec.Decryption != nil && spec.Decryption.SOPS != nil {
		keys, err := keyring(g.config.Decryption.SOPS, c, spec)
		if err != nil {
			return req, err
		}
		req.Decrypter = keys
	}
	return req, nil
}

// keyring opens the keys that a spec names and its source was granted. They are
// read anew for each render, so that a rotated key counts at once.
func keyring(all config.SOPS, c config.Source, spec environment.Spec) (*sops.Keyring, error) {
	var keys []sops.Key
	var program *sops.Program
	for _, name := range spec.Decryption.SOPS.Keys {
		k, there := all.Key(name)
		if !there || !slices.Contains(c.Keys, name) {
			// The same words for both: what other sources have is not told.
			hint := "the daemon's configuration grants it none: add it under sources[].keys"
			if len(c.Keys) > 0 {
				hint = "it has " + strings.Join(c.Keys, ", ")
			}
			return nil, sources.Problems{{
				File: spec.File, Line: spec.Line,
				Message: fmt.Sprintf("spec.decryption.sops.keys: source %q has no key %q", c.Name, name), Hint: hint,
			}}
		}
		if len(k.Services) == 0 {
			keys = append(keys, sops.Key{Name: name, AgeFile: k.AgeFile, PGPFile: k.PGPFile})
			continue
		}
		if program == nil {
			program = &sops.Program{Path: all.Program}
		}
		program.Services = append(program.Services, k.Services...)
		program.Environment = append(program.Environment, k.Environment...)
	}
	return sops.Open(keys, program)
}
