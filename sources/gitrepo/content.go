package gitrepo

import (
	"path"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// ContentID implements sources.Tree. For a file it is its mode and blob, for a
// folder its tree, for a submodule its commit; git's ids are digests of just what
// is asked for, also of files that Git LFS keeps, since their pointers are
// digests again. But for symbolic links: where one leads out of the folder, what
// it leads to counts too, for which the whole repository stands in.
func (t *tree) ContentID(name string) (string, error) {
	n, err := t.Find("identify", name, treefs.FollowLast)
	if err != nil {
		return "", err
	}
	h := n.Handle
	switch h.kind {
	case kindDir, kindSubmodule:
		id := "tree:" + h.hash.String()
		if h.kind == kindSubmodule {
			// It must be there, for what cannot be read has no content.
			if h, _, err = t.blobs.dir(h); err != nil {
				return "", treefs.PathError("identify", name, err)
			}
			id = "commit:" + n.Handle.hash.String()
		}
		leaves, err := t.linksOut(h)
		if err != nil {
			return "", treefs.PathError("identify", name, err)
		}
		if leaves {
			id += "+" + t.root.String()
		}
		return id, nil
	case kindExecutable:
		return "exec:" + h.hash.String(), nil
	}
	return "file:" + h.hash.String(), nil
}

// linksOut tells whether any symbolic link below a folder leads, or may lead,
// out of it. What is below a submodule is not looked into: it counts as leading
// out.
func (t *tree) linksOut(folder handle) (bool, error) {
	if folder.in == t.blobs.top && folder.hash == t.root {
		return false, nil
	}
	if f := folder.in.view.objects.known(folder.hash); f != nil && !f.links {
		return false, nil
	}
	return linksOutOf(folder, 0)
}

func linksOutOf(folder handle, depth int) (bool, error) {
	d, err := folder.in.view.objects.dir(folder.hash)
	if err != nil {
		return false, folder.noted(err)
	}
	for _, e := range d.entries {
		leaves := false
		switch child := folder.child(e).Handle; e.kind {
		case kindSubmodule:
			leaves = true
		case kindLink:
			target, err := blobs{}.Target(child)
			if err != nil {
				return false, err
			}
			leaves = leadsOut(target, depth)
		case kindDir:
			if f := folder.in.view.objects.known(e.hash); f != nil && !f.links {
				continue
			}
			if leaves, err = linksOutOf(child, depth+1); err != nil {
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
