package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Following says how far a source is trusted, what of it is read and what it may
// cost.
type Following struct {
	// Rewind says what becomes of a revision that does not descend from the one in
	// force.
	Rewind string `json:"rewind,omitempty"`
	// Verify says whose signatures are needed.
	Verify Verify `json:"verify,omitzero"`
	// Submodules says which are read: host, any or off. Empty is host.
	Submodules string `json:"submodules,omitempty"`
	// LFS fetches the files that Git LFS keeps.
	LFS bool `json:"lfs,omitempty"`
	// Store is where the mirror is: disk or memory. Empty is disk.
	Store string `json:"store,omitempty"`
	// Limits bound what the source may cost.
	Limits Limits `json:"limits,omitzero"`
}

// What Rewind can be; empty is to hold.
const (
	RewindHold  = "hold"
	RewindAllow = "allow"
)

// StoreMemory keeps the mirror of a repository in memory.
const StoreMemory = "memory"

// Verify says whose signatures a revision needs.
type Verify struct {
	// Signed is what has to be signed: commit, tag or either.
	Signed string `json:"signed,omitempty"`
	// OpenPGP are files of armored public keys.
	OpenPGP []string `json:"openpgp,omitempty"`
	// SSH are files of public keys, as allowed_signers or authorized_keys.
	SSH []string `json:"ssh,omitempty"`
}

// Limits bound what a source may cost, in bytes but for Files. Zero is the
// source's own default.
type Limits struct {
	// Repository bounds what is kept of it on disk, or of a directory all that is
	// read.
	Repository int64 `json:"repository,omitempty"`
	// Memory bounds what is kept in memory.
	Memory int64 `json:"memory,omitempty"`
	// Download bounds one download.
	Download int64 `json:"download,omitempty"`
	// File bounds one file.
	File int64 `json:"file,omitempty"`
	// Files bounds files and folders.
	Files int `json:"files,omitempty"`
}

// maxFiles and maxSize bound what limits may be set to.
const (
	maxFiles = 100_000_000
	maxSize  = 1 << 50
)

// following are the keys of a source that Following holds.
func (d *decoder) following(what string, f *Following) []yamldoc.Field {
	return []yamldoc.Field{
		d.wordField("rewind", what+".", &f.Rewind, RewindHold, RewindAllow),
		on("verify", func(n *yamldoc.Node) { d.verify(n, what+".verify", &f.Verify) }),
		d.wordField("submodules", what+".", &f.Submodules, "host", "any", "off"),
		d.boolField("lfs", what+".", &f.LFS),
		d.wordField("store", what+".", &f.Store, "disk", StoreMemory),
		on("limits", func(n *yamldoc.Node) { d.limits(n, what+".limits", &f.Limits) }),
	}
}

func (d *decoder) verify(n *yamldoc.Node, what string, v *Verify) {
	before := len(d.Problems)
	v.Signed = "commit"
	d.Mapping(n, what,
		d.wordField("signed", what+".", &v.Signed, "commit", "tag", "either"),
		on("openpgp", func(n *yamldoc.Node) { v.OpenPGP = d.paths(n, what+".openpgp") }),
		on("ssh", func(n *yamldoc.Node) { v.SSH = d.paths(n, what+".ssh") }),
	)
	if len(v.OpenPGP)+len(v.SSH) == 0 && len(d.Problems) == before {
		d.Fail(n, what+" names no keys", "list files of public keys under openpgp: or ssh:")
	}
}

func (d *decoder) paths(n *yamldoc.Node, what string) []string {
	var out []string
	for i, e := range d.List(n, what) {
		var path string
		if d.Text(e, fmt.Sprintf("%s[%d]", what, i), &path) {
			out = append(out, absolute(d.dir, path))
		}
	}
	return out
}

func (d *decoder) limits(n *yamldoc.Node, what string, l *Limits) {
	d.Mapping(n, what,
		d.sizeField("repository", what+".", &l.Repository),
		d.sizeField("memory", what+".", &l.Memory),
		d.sizeField("download", what+".", &l.Download),
		d.sizeField("file", what+".", &l.File),
		d.countField("files", what+".", maxFiles, &l.Files),
	)
}

// sizeField reads a number of bytes, such as 64MiB.
func (d *decoder) sizeField(key, what string, into *int64) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) {
		size, ok := parseSize(n.Value)
		if n.Kind != yamldoc.Scalar || !ok {
			d.Fail(n, fmt.Sprintf("%s must be a size, and is %q", what+key, n.Value), "write it with a unit, such as 64MiB or 2GiB")
			return
		}
		*into = size
	})
}

func parseSize(text string) (int64, bool) {
	shift := 0
	for unit, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			text, shift = strings.TrimSpace(rest), bits
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > maxSize>>shift {
		return 0, false
	}
	return n << shift, true
}

// checkFollowing refuses what only makes sense for a git repository.
func (d *decoder) checkFollowing(n *yamldoc.Node, s *Source, what string) {
	if s.Dir == "" && !s.OCI() {
		if s.Verify.Signed == "tag" && s.Ref == "" && s.Semver == "" {
			d.Fail(n, what+".verify needs a signed tag, and no tag is followed", "set ref or semver, or verify signed: commit")
		}
		return
	}
	for key, set := range map[string]bool{
		"rewind": s.Rewind != "", "verify": s.Verify.Signed != "", "submodules": s.Submodules != "", "lfs": s.LFS, "store": s.Store != "",
	} {
		if set {
			d.Fail(n, what+"."+key+" is for a git repository, and this is none", "")
		}
	}
}
