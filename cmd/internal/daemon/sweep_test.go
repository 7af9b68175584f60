package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

func TestOnlyUnusedMirrorsAreRemoved(t *testing.T) {
	c := config.Config{DataDir: t.TempDir()}
	sweepMirrors(c, zerolog.Nop()) // nothing is there yet
	c.Sources = []config.Source{
		{Name: "a", URL: "https://host/a", Credentials: config.Credentials{TokenFile: "one"}},
		{Name: "b", URL: "git@host:b"}, {Name: "dir", Dir: "/x"}, {Name: "oci", URL: "oci://host/x"},
	}
	old := c.Sources[0]
	old.Credentials.TokenFile = "two"
	want := map[string]bool{
		c.Sources[0].Git().Identity(): true, c.Sources[1].Git().Identity(): true,
		old.Git().Identity(): false, "not-a-mirror": true, "0123456789abcdef": false,
	}
	for name := range want {
		if err := os.MkdirAll(filepath.Join(mirrorDir(c.DataDir), name, "gen-1"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweepMirrors(c, zerolog.Nop())
	for name, stays := range want {
		if _, err := os.Stat(filepath.Join(mirrorDir(c.DataDir), name)); (err == nil) != stays {
			t.Errorf("%s: %v, stays should be %t", name, err, stays)
		}
	}
}
