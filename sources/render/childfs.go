package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// childFS is the file system that kustomize sees: the parent's snapshot, asked
// path by path. Nothing can be written.
type childFS struct {
	pipe *pipe
	// traced is the one file whose content is answered from here.
	traced        string
	tracedContent []byte
}

var _ filesys.FileSystem = (*childFS)(nil)

var errReadOnly = errors.New("the repository cannot be written")

// ask sends a question and returns the answer.
func (c *childFS) ask(kind byte, name string) (byte, []byte, error) {
	inside, err := fromRoot(filepath.Clean(name))
	if err != nil {
		return 0, nil, err
	}
	if err := c.pipe.send(kind, []byte(inside)); err != nil {
		return 0, nil, err
	}
	answer, payload, err := c.pipe.receive()
	if err != nil {
		return 0, nil, err
	}
	if answer == frameAbsent {
		return 0, nil, fmt.Errorf("%s: %w", inside, fs.ErrNotExist)
	}
	return answer, payload, nil
}

// Exists says whether there is anything at a path.
func (c *childFS) Exists(name string) bool {
	_, _, err := c.ask(frameStat, name)
	return err == nil
}

// IsDir says whether there is a folder at a path.
func (c *childFS) IsDir(name string) bool {
	kind, _, err := c.ask(frameStat, name)
	return err == nil && kind == frameFolder
}

// CleanedAbs splits a path into its folder and, if it is a file, its name.
func (c *childFS) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	kind, _, err := c.ask(frameStat, name)
	if err != nil {
		return "", "", err
	}
	inside, err := fromRoot(filepath.Clean(name))
	if err != nil {
		return "", "", err
	}
	full := inRoot(inside)
	if kind == frameFolder {
		return filesys.ConfirmedDir(full), "", nil
	}
	dir, base := filepath.Split(full)
	return filesys.ConfirmedDir(filepath.Clean(dir)), base, nil
}

// ReadFile is the content of a file.
func (c *childFS) ReadFile(name string) ([]byte, error) {
	if c.traced != "" && filepath.Clean(name) == c.traced {
		return c.tracedContent, nil
	}
	_, data, err := c.ask(frameRead, name)
	return data, err
}

// ReadDir is the names in a folder.
func (c *childFS) ReadDir(name string) ([]string, error) {
	_, payload, err := c.ask(frameList, name)
	if err != nil || len(payload) == 0 {
		return nil, err
	}
	return strings.Split(string(payload), "\x00"), nil
}

// Open reads a whole file, which for what kustomize opens is as good.
func (c *childFS) Open(name string) (filesys.File, error) {
	data, err := c.ReadFile(name)
	if err != nil {
		return nil, err
	}
	memory := filesys.MakeFsInMemory()
	if err := memory.WriteFile("/file", data); err != nil {
		return nil, err
	}
	return memory.Open("/file")
}

// Glob lists the paths of one folder that match a pattern in their last part.
func (c *childFS) Glob(pattern string) ([]string, error) {
	dir, last := filepath.Split(pattern)
	names, err := c.ReadDir(filepath.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		ok, err := filepath.Match(last, name)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, filepath.Join(dir, name))
		}
	}
	return found, nil
}

// Walk is refused: no build walks, and a walk would make everything an input.
func (c *childFS) Walk(string, filepath.WalkFunc) error {
	return errors.New("folders are not walked: list what is to be read")
}

// Create is refused.
func (c *childFS) Create(string) (filesys.File, error) { return nil, errReadOnly }

// Mkdir is refused.
func (c *childFS) Mkdir(string) error { return errReadOnly }

// MkdirAll is refused.
func (c *childFS) MkdirAll(string) error { return errReadOnly }

// RemoveAll is refused.
func (c *childFS) RemoveAll(string) error { return errReadOnly }

// WriteFile is refused.
func (c *childFS) WriteFile(string, []byte) error { return errReadOnly }
