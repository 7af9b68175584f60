package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
)

// kind is what an entry of a folder is.
type kind uint8

const (
	kindFile kind = iota
	kindExecutable
	kindLink
	kindDir
	kindSubmodule
)

// entry is one name in a folder.
type entry struct {
	name string
	kind kind
	hash plumbing.Hash
}

// dir is the listing of a folder, sorted by name.
type dir struct {
	entries []entry
	// refused are names that no file system should be asked to hold.
	refused []string
}

var errMalformedTree = errors.New("malformed listing")

// parseDir reads a tree object: for each entry an octal mode, a space, a name,
// a zero byte and the 20 bytes of an id.
func parseDir(b []byte) (*dir, error) {
	d := &dir{}
	for len(b) > 0 {
		space := bytes.IndexByte(b, ' ')
		if space < 0 {
			return nil, errMalformedTree
		}
		mode, err := strconv.ParseUint(string(b[:space]), 8, 32)
		if err != nil {
			return nil, errMalformedTree
		}
		b = b[space+1:]
		end := bytes.IndexByte(b, 0)
		if end < 0 || len(b) < end+21 {
			return nil, errMalformedTree
		}
		e := entry{name: string(b[:end]), hash: plumbing.Hash(b[end+1 : end+21])}
		b = b[end+21:]
		if e.kind, err = kindOf(mode); err != nil {
			return nil, err
		}
		if !validName(e.name) {
			d.refused = append(d.refused, e.name)
			continue
		}
		d.entries = append(d.entries, e)
	}
	slices.SortFunc(d.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(d.entries); i++ {
		if d.entries[i].name == d.entries[i-1].name {
			d.refused = append(d.refused, d.entries[i].name)
		}
	}
	return d, nil
}

func kindOf(mode uint64) (kind, error) {
	switch mode & 0o170000 {
	case 0o040000:
		return kindDir, nil
	case 0o120000:
		return kindLink, nil
	case 0o160000:
		return kindSubmodule, nil
	case 0o100000:
		if mode&0o111 != 0 {
			return kindExecutable, nil
		}
		return kindFile, nil
	}
	return 0, fmt.Errorf("%w: mode %o", errMalformedTree, mode)
}

// validName refuses what git itself would not check out, and what no path of
// io/fs can name.
func validName(name string) bool {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') || !utf8.ValidString(name) {
		return false
	}
	if strings.EqualFold(name, ".git") || strings.EqualFold(name, "git~1") {
		return false
	}
	return strings.IndexFunc(name, unicode.IsControl) < 0
}

func (d *dir) lookup(name string) (entry, bool) {
	i, ok := slices.BinarySearchFunc(d.entries, name, func(e entry, name string) int {
		return strings.Compare(e.name, name)
	})
	if !ok {
		return entry{}, false
	}
	return d.entries[i], true
}

// list gives the entries, or an error that names those which are refused: what
// cannot be told whole is not told at all.
func (d *dir) list() ([]entry, error) {
	if len(d.refused) == 0 {
		return d.entries, nil
	}
	var names []string
	for _, name := range d.refused[:min(5, len(d.refused))] {
		names = append(names, strconv.Quote(name))
	}
	return nil, fmt.Errorf("the folder holds names that are refused: %s (rename or remove them)", strings.Join(names, ", "))
}
