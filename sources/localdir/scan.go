package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// maxTries bounds how often a folder that changes while it is copied is copied
// again.
const maxTries = 5

var errChanged = errors.New("the folder changed while it was read")

// scan copies the folder, at one moment: a copy during which anything changed
// is thrown away.
func (d *Dir) scan(ctx context.Context) (*tree, error) {
	var err error
	for range maxTries {
		var t *tree
		if t, err = d.scanOnce(ctx); !errors.Is(err, errChanged) {
			if err != nil {
				return nil, fmt.Errorf("read folder %s: %w", d.opts.Dir, err)
			}
			return t, nil
		}
	}
	return nil, fmt.Errorf("read folder %s: %w, %d times over (write elsewhere and move it in place)", d.opts.Dir, err, maxTries)
}

func (d *Dir) scanOnce(ctx context.Context) (*tree, error) {
	// A Root cannot be left, even when a folder is swapped for a link meanwhile.
	root, err := os.OpenRoot(d.opts.Dir)
	if err != nil {
		return nil, reason(err)
	}
	defer root.Close()
	s := &scanner{ctx: ctx, opts: d.opts, root: root}
	top, err := s.dir(".")
	if err != nil {
		return nil, err
	}
	if err := s.unchanged(); err != nil {
		return nil, err
	}
	if err := d.sameRoot(root); err != nil {
		return nil, err
	}
	t := &tree{FS: treefs.New[*node](nodes{}, top, time.Time{})}
	digester := digester{raw: raw(top), active: map[*node]bool{}, find: func(path string) (*node, error) {
		n, err := t.Find("find", path, treefs.FollowLast)
		return n.Handle, err
	}}
	t.rev = findWorkTree(d.opts.Dir).identify(top, digester.compute(top))
	return t, nil
}

// sameRoot tells whether the folder itself was swapped meanwhile.
func (d *Dir) sameRoot(root *os.Root) error {
	was, err := root.Stat(".")
	if err != nil {
		return err
	}
	is, err := os.Stat(d.opts.Dir)
	if err != nil || !os.SameFile(was, is) {
		return errChanged
	}
	return nil
}

// scanner copies one folder once.
type scanner struct {
	ctx   context.Context
	opts  Options
	root  *os.Root
	seen  []seen
	bytes int64
}

// seen is what was found at a path, to be compared afterwards.
type seen struct {
	path string
	info fs.FileInfo
}

func (s *scanner) dir(path string) (*node, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.root.Open(path)
	if err != nil {
		return nil, gone(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, gone(err)
	}
	if err := s.note(path, info); err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, gone(err)
	}
	n := &node{path: path, kind: treefs.Dir}
	for _, e := range entries {
		if e.Name() == ".git" || temporary(e.Name()) {
			continue // the repository's own files, and those of editors
		}
		child, err := s.entry(join(path, e.Name()), e.Name())
		if err != nil {
			return nil, err
		}
		n.children = append(n.children, child)
	}
	slices.SortFunc(n.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	n.hideVolume()
	return n, nil
}

func (s *scanner) entry(path, name string) (*node, error) {
	if !utf8.ValidString(name) || strings.IndexFunc(name, unicode.IsControl) >= 0 {
		return nil, fmt.Errorf("the name %q is refused (rename or remove it)", name)
	}
	info, err := s.root.Lstat(path)
	if err != nil {
		return nil, gone(err)
	}
	if info.IsDir() {
		n, err := s.dir(path)
		if err != nil {
			return nil, err
		}
		n.name = name
		return n, nil
	}
	if err := s.note(path, info); err != nil {
		return nil, err
	}
	n := &node{name: name, path: path}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		n.kind = treefs.Link
		target, err := s.root.Readlink(path)
		if err != nil {
			return nil, gone(err)
		}
		n.content = []byte(target)
	case info.Mode().IsRegular():
		if info.Mode()&0o111 != 0 {
			n.kind = treefs.Executable
		}
		if n.content, err = s.file(path, info); err != nil {
			return nil, err
		}
	default:
		n.err = errors.New("is neither a file nor a folder")
	}
	return n, nil
}

func (s *scanner) file(path string, info fs.FileInfo) ([]byte, error) {
	size := info.Size()
	if size > s.opts.MaxFileBytes {
		return nil, fmt.Errorf("file %s has %d bytes, more than the limit of %d", path, size, s.opts.MaxFileBytes)
	}
	if s.bytes += size; s.bytes > s.opts.MaxBytes {
		return nil, fmt.Errorf("the files have more than %d bytes (choose a smaller folder or raise the limit)", s.opts.MaxBytes)
	}
	f, err := s.root.Open(path)
	if err != nil {
		return nil, gone(err)
	}
	defer f.Close()
	if opened, err := f.Stat(); err != nil || !os.SameFile(opened, info) {
		return nil, errChanged
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(f, content); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errChanged
	} else if err != nil {
		return nil, err
	}
	return content, nil
}

func (s *scanner) note(path string, info fs.FileInfo) error {
	s.seen = append(s.seen, seen{path, info})
	if len(s.seen) > s.opts.MaxFiles {
		return fmt.Errorf("there are more than %d files and folders (choose a smaller folder or raise the limit)", s.opts.MaxFiles)
	}
	return nil
}

// unchanged compares everything with what it was when it was read.
func (s *scanner) unchanged() error {
	for _, was := range s.seen {
		is, err := s.root.Lstat(was.path)
		if err != nil || !os.SameFile(is, was.info) || is.Mode() != was.info.Mode() ||
			is.Size() != was.info.Size() || !is.ModTime().Equal(was.info.ModTime()) {
			return errChanged
		}
	}
	return nil
}

// gone tells what vanished under the scan from what cannot be read.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errChanged
	}
	return err
}

// reason drops the path that the error repeats.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
