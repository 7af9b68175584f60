package cli

import (
	"cmp"
	"context"
	"errors"
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
	"github.com/holdfast-gitops/holdfast/sources/schema"
	"github.com/holdfast-gitops/holdfast/sources/sops"
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
	// Skipped says why it was not rendered, where that needs a network.
	Skipped string `json:"skipped,omitempty"`
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
(default "."), render each, check the objects against the schemas of Kubernetes
` + schema.KubernetesVersion + ` and of the custom resource definitions found, and print all
problems with file and line. Encrypted files are checked without their secrets.
What would have to be fetched is not rendered, and said to be so.

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
			v := &validator{renderer: render.New(render.Options{Charts: offline{}}), found: Validation{Environments: []ValidatedEnvironment{}}}
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
		if b.Kind != environment.KindBlueprint {
			v.found.Environments = append(v.found.Environments, ValidatedEnvironment{Name: b.Name, Problems: len(b.Problems)})
		}
		v.reportIn(dir, b.Problems)
	}
	if len(repo.Names())+len(repo.Broken) == 0 {
		v.report(sources.Problem{File: dir, Message: "holds no environment spec", Hint: "write one, or check one folder with --path"})
	}
	specs := repo.Specs
	for _, t := range repo.Templates {
		spec, err := t.For(t.Sample(), strings.Repeat("0", 40))
		if err != nil {
			v.reportIn(dir, sources.ProblemsOf(err))
			continue
		}
		specs = append(specs, spec)
	}
	return v.renderAll(ctx, dir, snap.Tree, specs)
}

// validated is what became of one environment.
type validated struct {
	items    []sources.Item
	problems sources.Problems
	skipped  string
}

// renderAll renders environments side by side, and reports them in their order.
func (v *validator) renderAll(ctx context.Context, dir string, tree sources.Tree, specs []environment.Spec) error {
	outcomes := make([]validated, len(specs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, spec := range specs {
		group.Go(func() error {
			outcomes[i] = v.render(ctx, tree, spec)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	if err := checkSchemas(tree, outcomes); err != nil {
		return err
	}
	for i, o := range outcomes {
		for j := range o.problems {
			if o.problems[j].File == "" && o.problems[j].Object == "" {
				o.problems[j].File = cmp.Or(specs[i].Path, ".")
			}
		}
		v.found.Environments = append(v.found.Environments, ValidatedEnvironment{
			Name: specs[i].Name, Path: specs[i].Path, Objects: len(o.items), Problems: len(o.problems), Skipped: o.skipped,
		})
		v.reportIn(dir, o.problems)
	}
	return nil
}

func (v *validator) render(ctx context.Context, tree sources.Tree, spec environment.Spec) validated {
	o := validated{problems: v.checkTarget(spec)}
	if spec.Source != nil {
		o.skipped = "its files are in another source"
		return o
	}
	req := render.For(spec)
	req.Tree, req.Decrypter = tree, sops.Placeholder{}
	out, err := v.renderer.Render(ctx, req)
	if errors.Is(err, errOffline) {
		o.skipped = "its chart has to be fetched"
		return o
	}
	o.items = out.Items
	o.problems = append(o.problems, sources.ProblemsOf(err)...)
	return o
}

// checkSchemas checks all objects. The definitions of custom kinds count for
// every environment: they are often applied by another.
func checkSchemas(tree sources.Tree, outcomes []validated) error {
	var all []sources.Item
	for _, o := range outcomes {
		all = append(all, o.items...)
	}
	set, err := schema.New(all...)
	if err != nil {
		return err
	}
	for i := range outcomes {
		outcomes[i].problems = append(outcomes[i].problems, set.Problems(tree, outcomes[i].items)...)
	}
	return nil
}

var errOffline = errors.New("nothing is fetched while checking")

// offline fetches no charts.
type offline struct{}

// Fetch implements render.Charts.
func (offline) Fetch(context.Context, string, string, string) ([]byte, error) { return nil, errOffline }

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
			if e.Skipped != "" && e.Problems == 0 {
				verdict = "not rendered: " + e.Skipped
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
