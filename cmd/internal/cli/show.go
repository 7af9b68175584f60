package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

func (a *app) showCommand() *cobra.Command {
	var pattern, branch string
	c := &cobra.Command{
		Use: "show ENVIRONMENT [DIR]", Short: "Print a spec with all that it extends",
		Long: `Print an environment's spec as it counts: with what it extends merged in and
its parameters put in. A value that another document gave has a comment that
says where. The specs are looked for below DIR (default ".").

With --branch, of a template for previews, it prints the spec of that branch.
` + exitHelp,
		Example: "  holdfast show prod\n  holdfast show review --branch feature/search",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 1 {
				dir = args[1]
			}
			text, err := show(c, dir, pattern, args[0], branch)
			if err != nil {
				return failed(err)
			}
			_, err = a.stdout.Write(text)
			return err
		},
	}
	c.Flags().StringVar(&pattern, "environments", ".", "folder or glob of the specs in DIR")
	c.Flags().StringVar(&branch, "branch", "", "a branch that a template for previews matches")
	return c
}

func show(c *cobra.Command, dir, pattern, name, branch string) ([]byte, error) {
	d, err := localdir.Open(localdir.Options{Name: "show", Dir: dir})
	if err != nil {
		return nil, err
	}
	snap, err := d.Fetch(c.Context())
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	repo, err := environment.Read(snap.Tree, pattern)
	if err != nil {
		return nil, err
	}
	for _, b := range repo.Broken {
		if b.Name == name {
			return nil, b.Problems
		}
	}
	if branch != "" {
		return showBranch(repo, name, branch)
	}
	if text := repo.Show(name); text != nil {
		return text, nil
	}
	names := repo.Names()
	hint := "there are: " + strings.Join(names, ", ")
	if best := manifest.Closest(name, names); best != "" {
		hint = "did you mean " + best + "?"
	}
	return nil, sources.Problem{Message: fmt.Sprintf("there is no environment %q in %s", name, dir), Hint: hint}
}

func showBranch(repo *environment.Repository, name, branch string) ([]byte, error) {
	for _, t := range repo.Templates {
		if t.Spec.Name != name {
			continue
		}
		if !t.Matches(branch) {
			return nil, sources.Problem{File: t.Spec.File, Line: t.Spec.Line, Message: fmt.Sprintf("the template %s does not match branch %q", name, branch)}
		}
		return t.Show(branch, strings.Repeat("0", 40))
	}
	return nil, sources.Problem{Message: fmt.Sprintf("there is no template for previews called %q", name), Hint: "--branch is for specs with a preview"}
}
