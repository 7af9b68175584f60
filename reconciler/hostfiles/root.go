package hostfiles

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"
)

// maxRead bounds what is read of a live file; one that is larger differs from
// anything that can be wanted.
const maxRead = 8 << 20

// stamp is what tells that a file was touched, without reading it.
type stamp struct {
	there    bool
	mode     fs.FileMode
	size     int64
	modified time.Time
	changed  time.Time
	inode    uint64
	device   uint64
	uid, gid int
}

// live is a file as it is.
type live struct {
	stamp
	// content is nil where it was not read, or is too large.
	content []byte
	large   bool
}

func (s stamp) regular() bool { return s.mode.IsRegular() }

// what names what stands in the place of a file.
func (s stamp) what() string {
	switch {
	case s.mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case s.mode.IsDir():
		return "a folder"
	}
	return "no regular file"
}

// uniqueID names the very file, so that a plan is about it and no other.
func (s stamp) uniqueID() string {
	if !s.there {
		return ""
	}
	return fmt.Sprintf("%d:%d", s.device, s.inode)
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{there: true, mode: info.Mode(), size: info.Size(), modified: info.ModTime(), uid: -1, gid: -1}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.device, s.uid, s.gid = st.Ino, uint64(st.Dev), int(st.Uid), int(st.Gid)
		s.changed = changeTime(st)
	}
	return s
}

// symlinkError is a link where a folder should be.
type symlinkError struct{ path string }

// Error says which.
func (e symlinkError) Error() string {
	return e.path + " is a symbolic link, and links are not followed"
}

// plainFolders sees that all folders on the way to a path are folders, as far as
// they exist. os.Root keeps everything below the root in any case; this keeps
// links inside of it from leading a file to a place that is not its own.
func plainFolders(root *os.Root, p string) error {
	for i, c := range p {
		if c != '/' {
			continue
		}
		info, err := root.Lstat(p[:i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			return symlinkError{p[:i]}
		case !info.IsDir():
			return fmt.Errorf("%s is no folder", p[:i])
		}
	}
	return nil
}

// glance looks at a file without reading it.
func glance(root *os.Root, p string) (stamp, error) {
	if err := plainFolders(root, p); err != nil {
		return stamp{}, err
	}
	info, err := root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	return stampOf(info), nil
}

// read looks at a file and reads it. The stamp is that of what was read.
func read(root *os.Root, p string) (live, error) {
	s, err := glance(root, p)
	if err != nil || !s.there || !s.regular() {
		return live{stamp: s}, err
	}
	// O_NONBLOCK: should a pipe have taken its place, opening does not wait.
	f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return live{}, nil
	}
	if err != nil {
		return live{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return live{}, err
	}
	out := live{stamp: stampOf(info)}
	if !info.Mode().IsRegular() {
		return out, nil
	}
	if out.content, err = io.ReadAll(io.LimitReader(f, maxRead+1)); err != nil {
		return live{}, err
	}
	if len(out.content) > maxRead {
		out.content, out.large = nil, true
	}
	return out, nil
}

// replacement is how a file is to be put in its place.
type replacement struct {
	path     string
	content  []byte
	mode     fs.FileMode
	uid, gid int
	// fresh: nothing may be there.
	fresh bool
}

// put writes a file beside its place, makes it durable, and gives it its name.
// Whoever reads the path sees the old file or the new one, whole.
func put(root *os.Root, r replacement) (err error) {
	temp := path.Join(tempDir, randomName())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil || r.fresh {
			err = errors.Join(err, root.Remove(temp))
		}
	}()
	_, err = f.Write(r.content)
	if err == nil && (r.uid >= 0 || r.gid >= 0) {
		err = f.Chown(r.uid, r.gid)
	}
	if err == nil {
		err = f.Chmod(r.mode) // after the owner, whose change may take bits away
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if r.fresh {
		// Unlike a rename, a link replaces nothing that came since we looked.
		err = root.Link(temp, r.path)
	} else {
		err = root.Rename(temp, r.path)
	}
	if errors.Is(err, syscall.EXDEV) {
		return fmt.Errorf("%s is on another file system than the target's directory, so that it cannot be replaced in one step", path.Dir(r.path))
	}
	if err != nil {
		return err
	}
	return syncFolder(root, path.Dir(r.path))
}

func randomName() string {
	var b [8]byte
	rand.Read(b[:]) // never fails, says its documentation
	return hex.EncodeToString(b[:])
}

func syncFolder(root *os.Root, p string) error {
	d, err := root.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// missingFolders are the folders on the way to a path that do not exist, the
// outermost first.
func missingFolders(root *os.Root, p string) []string {
	var out []string
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if _, err := root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			out = append(out, dir)
		}
	}
	slices.Reverse(out)
	return out
}

// clearTemp removes what a write that was cut short left behind.
func clearTemp(root *os.Root) error {
	if err := root.MkdirAll(tempDir, 0o700); err != nil {
		return err
	}
	dir, err := root.Open(tempDir)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	err = errors.Join(err, dir.Close())
	for _, name := range names {
		err = errors.Join(err, root.Remove(path.Join(tempDir, name)))
	}
	return err
}
