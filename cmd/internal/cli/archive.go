package cli

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// archiveOf is a tar stream of a directory's regular files and links, without
// what belongs to git itself. It must be closed; an error shows at the end of
// the stream.
func archiveOf(dir string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := addFiles(t, dir)
		if closeErr := t.Close(); err == nil {
			err = closeErr
		}
		w.CloseWithError(err)
	}()
	return r
}

func addFiles(t *tar.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() == ".git" {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		link := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		case !info.Mode().IsRegular():
			return nil
		}
		return addFile(t, dir, path, link, info)
	})
}

func addFile(t *tar.Writer, dir, path, link string, info fs.FileInfo) error {
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return fmt.Errorf("archive %s: %w", path, err)
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return fmt.Errorf("archive %s: %w", path, err)
	}
	h.Name, h.Uname, h.Gname, h.Uid, h.Gid = filepath.ToSlash(rel), "", "", 0, 0
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", path, err)
	}
	if link != "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(t, f); err != nil {
		return fmt.Errorf("archive %s: %w", path, err)
	}
	return nil
}
