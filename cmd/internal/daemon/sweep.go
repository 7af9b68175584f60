package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

// mirrorDir is where the mirrors of repositories are.
func mirrorDir(dataDir string) string { return filepath.Join(dataDir, "cache", "git") }

// mirrorName is what gitrepo's Identity looks like. Nothing else is ours.
var mirrorName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// sweepMirrors removes the mirrors that no source uses any more: those of sources
// that were taken out, or whose URL or credentials are others now. It is called
// once, before anything reads them.
func sweepMirrors(c config.Config, log zerolog.Logger) {
	used := map[string]bool{}
	for _, s := range c.Sources {
		if s.Dir == "" && !s.OCI() {
			used[s.Git().Identity()] = true
		}
	}
	entries, err := os.ReadDir(mirrorDir(c.DataDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn().Err(err).Msg("unused mirrors cannot be looked for")
	}
	for _, e := range entries {
		if used[e.Name()] || !e.IsDir() || !mirrorName.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(mirrorDir(c.DataDir), e.Name())
		if err := os.RemoveAll(path); err != nil {
			log.Warn().Err(err).Msg("unused mirror cannot be removed")
			continue
		}
		log.Info().Str("path", path).Msg("unused mirror removed")
	}
}
