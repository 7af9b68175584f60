package daemon

import (
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
)

// following adds to a repository's options how far it is trusted, what of it is
// read and what it may cost.
func following(c config.Source, o gitrepo.Options) gitrepo.Options {
	o.Trust = gitrepo.Trust{Signed: gitrepo.Signed(c.Verify.Signed), OpenPGP: c.Verify.OpenPGP, SSH: c.Verify.SSH}
	o.Submodules, o.LFS, o.Memory = gitrepo.Submodules(c.Submodules), c.LFS, c.Store == config.StoreMemory
	o.Limits = gitrepo.Limits{
		MirrorBytes: c.Limits.Repository, MemoryBytes: c.Limits.Memory, PackBytes: c.Limits.Download,
		FileBytes: c.Limits.File, Files: int64(c.Limits.Files),
	}
	return o
}

// dirOptions are those of a local directory.
func dirOptions(c config.Source) localdir.Options {
	return localdir.Options{
		Name: c.Name, Dir: c.Dir,
		MaxFiles: c.Limits.Files, MaxBytes: c.Limits.Repository, MaxFileBytes: c.Limits.File,
	}
}
