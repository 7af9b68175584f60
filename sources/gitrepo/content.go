package gitrepo

import (
	"path"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// ContentID implements sources.Tree. For a file it is its mode and blob, for a
// folder its tree; git's ids are digests of just what is asked for, but for
// symbolic links: where one leads out of the folder, what it leads to counts
// too, for which the whole repository stands in.
func (t *tree) ContentID(name string) (string, error) {
	n, err := t.Find("identify", name, treefs.FollowLast)
	if err != nil {
		return "", err
	}
	e := n.Handle
	switch e.kind {
	case kindDir:
		leaves, err := t.linksOut(e)
		if err != nil {
			return "", treefs.PathError("identify", name, err)
		}
		if leaves {
			return "tree:" + e.hash.String() + "+" + t.root.String(), nil
		}
		return "tree:" + e.hash.String(), nil
	case kindSubmodule:
		return "", treefs.PathError("identify", name, errSubmodule)
	case kindExecutable:
		return "exec:" + e.hash.String(), nil
	}
	return "file:" + e.hash.String(), nil
}

// linksOut tells whether any symbolic link below a folder leads, or may lead,
// out of it.
func (t *tree) linksOut(folder entry) (bool, error) {
	if folder.hash == t.root {
		return false, nil
	}
	if f := t.blobs.objects.known(folder.hash); f != nil && !f.links {
		return false, nil
	}
	return t.linksOutOf(folder, 0)
}

func (t *tree) linksOutOf(folder entry, depth int) (bool, error) {
	d, err := t.blobs.objects.dir(folder.hash)
	if err != nil {
		return false, err
	}
	for _, e := range d.entries {
		leaves := false
		switch {
		case e.kind == kindLink:
			target, err := t.blobs.Target(e)
			if err != nil {
				return false, err
			}
			leaves = leadsOut(target, depth)
		case e.kind == kindDir:
			if f := t.blobs.objects.known(e.hash); f != nil && !f.links {
				continue
			}
			if leaves, err = t.linksOutOf(e, depth+1); err != nil {
				return false, err
			}
		}
		if leaves {
			return true, nil
		}
	}
	return false, nil
}

// leadsOut judges a link by its text, from a folder that many levels below the
// one that is asked about. A ".." after a name may go up from wherever another
// link leads, so it counts as leading out.
func leadsOut(target string, depth int) bool {
	if path.IsAbs(target) {
		return true
	}
	named := false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; named || depth < 0 {
				return true
			}
		default:
			named = true
		}
	}
	return false
}
