package cli

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in releases.
var version string

// Build says what a binary was made of.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	// Modified means that the commit's files were changed before the build.
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// build reads what the Go toolchain wrote into the binary.
func build() Build {
	b := Build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		b.Version = cmp.Or(b.Version, "unknown")
		return b
	}
	b.Version = cmp.Or(b.Version, info.Main.Version, "(devel)")
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "version", Short: "Say which Holdfast this is",
		Long:    "Say which Holdfast this is, and what it was built from.\n" + exitHelp,
		Example: "  holdfast version\n  holdfast version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			b := build()
			return a.print(b, func(w io.Writer) {
				fmt.Fprintf(w, "holdfast %s\n", b.Version)
				if b.Commit != "" {
					fmt.Fprintf(w, "commit   %s%s\n", b.Commit, map[bool]string{true: ", modified"}[b.Modified])
				}
				fmt.Fprintf(w, "built by %s for %s\n", b.Go, b.Platform)
			})
		},
	}
	a.addFormat(c)
	return c
}
