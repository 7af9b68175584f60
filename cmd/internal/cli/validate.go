package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// Validation is what `validate` found.
type Validation struct {
	Valid        bool                   `json:"valid"`
	Environments []ValidatedEnvironment `json:"environments"`
	// Problems are all there are, those of the environments included.
	Problems sources.Problems `json:"problems,omitempty"`
}

// ValidatedEnvironment is one environment that was rendered.
type ValidatedEnvironment struct {
	Name string `json:"name"`
	Path string `json:"path"`
	// Objects is how many it renders to.
	Objects  int `json:"objects"`
	Problems int `json:"problems"`
}

// validator collects what is found in the folders that are looked at.
type validator struct {
	renderer *render.Renderer
	// targets are the daemon's, where its file is known.
	targets []string
	found   Validation
}

func (a *app) validateCommand() *cobra.Command {
	var file, path, pattern string
	c := &cobra.Command{
		Use: "validate [DIR]", Short: "Check environments, without a cluster",
		Long: `Check environments, without a cluster or network: find the specs below DIR
(default "."), render each, and print all problems with file and line.

With --path it renders one folder of DIR that needs no spec. With --config it
checks the daemon's file, too; and, unless DIR is given, the local directories
that this names as sources.

Ends with 3 when anything is invalid.
` + exitHelp,
		Example: "  holdfast validate\n  holdfast validate ../shop --environments environments\n  holdfast validate --path deploy\n  holdfast validate --config holdfast.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			v := &validator{renderer: render.New(render.Options{}), found: Validation{Environments: []ValidatedEnvironment{}}}
			if err := v.validate(c.Context(), file, args, path, pattern); err != nil {
				return failed(err)
			}
			return a.printValidation(v.found)
		},
	}
	c.Flags().StringVar(&file, "config", "", "the daemon's file, to be checked as well")
	c.Flags().StringVar(&path, "path", "", "render this one folder of DIR, without a spec")
	c.Flags().StringVar(&pattern, "environments", ".", "folder or glob of the specs in DIR")
	a.addFormat(c)
	return c
}

// validate fails only if it cannot find out; what is invalid is collected.
func (v *validator) validate(ctx context.Context, file string, args []string, path, pattern string) error {
	var local []config.Source
	if file != "" {
		c, err := config.Load(file)
		if err != nil {
			v.report(sources.ProblemsOf(err)...)
		}
		for _, t := range c.Targets {
			v.targets = append(v.targets, t.Name)
		}
		local = c.Sources
	}
	if len(args) > 0 || file == "" || path != "" {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		return v.dir(ctx, dir, pattern, path)
	}
	for _, s := range local {
		if s.Dir == "" {
			continue // a repository is somewhere else, and this works offline
		}
		if err := v.dir(ctx, s.Dir, s.Environments, ""); err != nil {
			return err
		}
	}
	return nil
}

// dir checks the environments of one directory, or only one folder of it.
func (v *validator) dir(ctx context.Context, dir, pattern, path string) error {
	d, err := localdir.Open(localdir.Options{Name: "validate", Dir: dir})
	if err != nil {
		return err
	}
	snap, err := d.Fetch(ctx)
	if err != nil {
		return err
	}
	defer snap.Close()
	if path != "" {
		clean := filepath.ToSlash(filepath.Clean(path))
		return v.renderAll(ctx, dir, snap.Tree, []environment.Spec{{Name: config.Slug(filepath.Base(clean)), Path: clean}})
	}
	repo, err := environment.Read(snap.Tree, pattern)
	if err != nil {
		v.reportIn(dir, sources.ProblemsOf(err))
		return nil
	}
	for _, b := range repo.Broken {
		v.found.Environments = append(v.found.Environments, ValidatedEnvironment{Name: b.Name, Problems: len(b.Problems)})
		v.reportIn(dir, b.Problems)
	}
	if len(repo.Names())+len(repo.Broken) == 0 {
		v.report(sources.Problem{File: dir, Message: "holds no environment spec", Hint: "write one, or check one folder with --path"})
	}
	return v.renderAll(ctx, dir, snap.Tree, repo.Specs)
}

// renderAll renders environments side by side, and reports them in their order.
func (v *validator) renderAll(ctx context.Context, dir string, tree sources.Tree, specs []environment.Spec) error {
	results := make([]ValidatedEnvironment, len(specs))
	problems := make([]sources.Problems, len(specs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, spec := range specs {
		group.Go(func() error {
			out, err := v.renderer.Render(ctx, render.Request{
				Tree: tree, Path: spec.Path, DefaultNamespace: spec.Namespace, CreateNamespace: spec.CreateNamespace,
			})
			problems[i] = append(v.checkTarget(spec), sources.ProblemsOf(err)...)
			results[i] = ValidatedEnvironment{Name: spec.Name, Path: spec.Path, Objects: len(out.Items), Problems: len(problems[i])}
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	v.found.Environments = append(v.found.Environments, results...)
	for i, ps := range problems {
		for j := range ps {
			if ps[j].File == "" && ps[j].Object == "" {
				ps[j].File = cmp.Or(specs[i].Path, ".")
			}
		}
		v.reportIn(dir, ps)
	}
	return nil
}

func (v *validator) checkTarget(spec environment.Spec) sources.Problems {
	if v.targets == nil || spec.File == "" || slices.Contains(v.targets, spec.Target) {
		return nil
	}
	return sources.Problems{{
		File: spec.File, Line: spec.Line, Message: fmt.Sprintf("there is no target %q", spec.Target),
		Hint: "there are: " + strings.Join(v.targets, ", "),
	}}
}

// reportIn takes problems whose files are relative to a directory.
func (v *validator) reportIn(dir string, problems sources.Problems) {
	for _, p := range problems {
		if p.File != "" {
			p.File = filepath.Join(dir, filepath.FromSlash(p.File))
		}
		v.report(p)
	}
}

func (v *validator) report(problems ...sources.Problem) {
	for _, p := range problems {
		if !slices.Contains(v.found.Problems, p) { // environments may share a broken file
			v.found.Problems = append(v.found.Problems, p)
		}
	}
}

func (a *app) printValidation(found Validation) error {
	found.Valid = len(found.Problems) == 0
	if err := a.print(found, func(w io.Writer) { validationTable(w, found) }); err != nil {
		return failed(err)
	}
	if !found.Valid {
		return exit(exitInvalid)
	}
	return nil
}

func validationTable(w io.Writer, found Validation) {
	if len(found.Environments) > 0 {
		rows := make([][]string, len(found.Environments))
		for i, e := range found.Environments {
			verdict := "valid"
			if e.Problems > 0 {
				verdict = strconv.Itoa(e.Problems) + " problems"
				if e.Problems == 1 {
					verdict = "1 problem"
				}
			}
			rows[i] = []string{cmp.Or(cell(e.Name, 63), "(no name)"), cell(e.Path, 80), strconv.Itoa(e.Objects), verdict}
		}
		printTable(w, []string{"environment", "path", "objects", "verdict"}, rows)
	}
	if found.Valid {
		if len(found.Environments) == 0 {
			fmt.Fprintln(w, "valid")
		}
		return
	}
	if len(found.Environments) > 0 {
		fmt.Fprintln(w)
	}
	printProblems(w, "", found.Problems)
}
