// Command holdfast keeps clusters as git says they are.
package main

import (
	"context"
	"os"

	"github.com/holdfast-gitops/holdfast/cmd/internal/cli"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

func main() {
	if render.IsChild() {
		os.Exit(render.ChildMain())
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
