package rig

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
)

// Delete as the content of a file in a commit removes it.
const Delete = gitserver.Delete

// Repo is a bare git repository that is served over loopback HTTP and can be
// pushed to.
type Repo struct {
	// URL is where it is served.
	URL string

	server *gitserver.Server
	repo   *gitserver.Repo
}

// NewRepo makes a repository in dir with a first commit of these files.
func NewRepo(dir, name string, files map[string]string) (r *Repo, err error) {
	defer recovered(&err, "make the repository")
	server := gitserver.New(dir)
	if err := server.Listen(); err != nil {
		return nil, fmt.Errorf("serve the repository: %w", err)
	}
	repo := server.Repo(gitserver.Must, name)
	repo.Git(gitserver.Must, "", "config", "http.receivepack", "true") // no one but this machine can push
	repo.Commit(gitserver.Must, files)
	return &Repo{URL: repo.URL, server: server, repo: repo}, nil
}

// Commit writes these files on top of the main branch and returns the hash.
func (r *Repo) Commit(files map[string]string) (hash string, err error) {
	defer recovered(&err, "commit")
	return r.repo.Commit(gitserver.Must, files), nil
}

// Close stops serving. The repository stays.
func (r *Repo) Close() { r.server.Close() }

// recovered turns the panics, by which the git server fails in programs that
// are no tests, into errors.
func recovered(err *error, what string) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s: %v", what, p)
	}
}

// Files reads the files of a folder by their slash-separated paths.
func Files(dir string) (map[string]string, error) {
	out := map[string]string{}
	tree := os.DirFS(dir)
	err := fs.WalkDir(tree, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := fs.ReadFile(tree, path)
		out[path] = string(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	return out, nil
}
