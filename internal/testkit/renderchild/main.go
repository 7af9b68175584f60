// Command renderchild is nothing but the child that renders. Tests with the race detector
// build it without: the child does one thing at a time, and would take several
// times as long.
package main

import (
	"fmt"
	"os"

	"github.com/holdfast-gitops/holdfast/sources/render"
)

func main() {
	if !render.IsChild() {
		fmt.Fprintln(os.Stderr, "renderchild: this is started by a renderer")
		os.Exit(2)
	}
	os.Exit(render.ChildMain())
}
