package gitserver

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Delete as the content of a file in a commit removes the file, or the folder.
const Delete = "\x00delete"

// Main is the branch that Commit writes to and that HEAD names.
const Main = "refs/heads/main"

const (
	symlinkMark    = "\x00symlink "
	executableMark = "\x00executable "
	submoduleMark  = "\x00submodule "
)

// Symlink as the content of a file makes it a symbolic link to target.
func Symlink(target string) string { return symlinkMark + target }

// Executable as the content of a file makes it executable.
func Executable(content string) string { return executableMark + content }

// Submodule as the content of a file makes it a submodule at that commit.
func Submodule(commit string) string { return submoduleMark + commit }

// Repo is one bare repository of a server. Commits are written straight into
// it, in one git process each, as a push would leave it.
type Repo struct {
	// URL is where it is served.
	URL string
	// Dir is the bare repository.
	Dir string

	server *Server
	env    []string
}

// Repo creates an empty bare repository called name, or opens it.
func (s *Server) Repo(t TB, name string) *Repo {
	t.Helper()
	env, err := environment(s.dir)
	if err != nil {
		t.Fatalf("prepare git: %v", err)
	}
	r := &Repo{
		URL: s.URL + "/" + name + ".git", Dir: filepath.Join(s.dir, name+".git"),
		server: s, env: env,
	}
	if _, err := os.Stat(r.Dir); err != nil {
		if err := os.MkdirAll(r.Dir, 0o755); err != nil {
			t.Fatalf("make repository %s: %v", name, err)
		}
		r.Git(t, "", "init", "--quiet", "--bare", ".")
	}
	return r
}

// Commit adds a commit to the main branch that writes these files (see Delete,
// Symlink, Executable, Submodule) and answers its hash. Dates are fixed, one
// minute apart, so that hashes repeat from run to run.
func (r *Repo) Commit(t TB, files map[string]string) string {
	t.Helper()
	parent := ""
	if out, err := r.git("", "rev-parse", "--quiet", "--verify", Main); err == nil {
		parent = out
	}
	return r.CommitTo(t, Main, parent, files)
}

// CommitTo makes a commit on top of parent, none where that is empty, and
// points ref at it wherever ref was before, as a forced push does.
func (r *Repo) CommitTo(t TB, ref, parent string, files map[string]string) string {
	t.Helper()
	r.server.mu.Lock()
	r.server.commits++
	n := r.server.commits
	r.server.mu.Unlock()
	when := time.Date(2026, 1, 1, 0, n, 0, 0, time.UTC).Unix()

	var b strings.Builder
	fmt.Fprintf(&b, "commit %s\n", ref)
	fmt.Fprintf(&b, "author Ada Example <ada@example.com> %d +0000\n", when)
	fmt.Fprintf(&b, "committer Ada Example <ada@example.com> %d +0000\n", when)
	message := fmt.Sprintf("Change %d\n\nMade by the git server.\n", n)
	fmt.Fprintf(&b, "data %d\n%s\n", len(message), message)
	if parent == "" {
		// Without a parent, fast-import would continue the branch.
		b.WriteString("deleteall\n")
	} else {
		fmt.Fprintf(&b, "from %s\n", parent)
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		writeChange(&b, name, files[name])
	}
	if parent == "" {
		if _, err := r.git("", "update-ref", "-d", ref); err != nil {
			t.Fatalf("clear %s: %v", ref, err)
		}
	}
	r.Git(t, b.String(), "fast-import", "--quiet", "--force")
	return r.Git(t, "", "rev-parse", "--verify", ref)
}

func writeChange(b *strings.Builder, name, content string) {
	if content == Delete {
		fmt.Fprintf(b, "D %s\n", name)
		return
	}
	if commit, ok := strings.CutPrefix(content, submoduleMark); ok {
		fmt.Fprintf(b, "M 160000 %s %s\n", commit, name)
		return
	}
	mode := "100644"
	if target, ok := strings.CutPrefix(content, symlinkMark); ok {
		mode, content = "120000", target
	} else if text, ok := strings.CutPrefix(content, executableMark); ok {
		mode, content = "100755", text
	}
	fmt.Fprintf(b, "M %s inline %s\ndata %d\n%s\n", mode, name, len(content), content)
}

// ForcePush points ref at a commit that the repository has.
func (r *Repo) ForcePush(t TB, ref, hash string) {
	t.Helper()
	r.Git(t, "", "update-ref", ref, hash)
}

// DeleteRef removes a branch or tag by its full name.
func (r *Repo) DeleteRef(t TB, ref string) {
	t.Helper()
	r.Git(t, "", "update-ref", "-d", ref)
}

// Tag makes a tag, an annotated one where there is a message.
func (r *Repo) Tag(t TB, name, hash, message string) {
	t.Helper()
	if message == "" {
		r.Git(t, "", "tag", "--force", name, hash)
		return
	}
	r.Git(t, "", "tag", "--force", "--annotate", "--message", message, name, hash)
}

// Git runs git in the bare repository and answers its trimmed output.
func (r *Repo) Git(t TB, stdin string, args ...string) string {
	t.Helper()
	out, err := r.git(stdin, args...)
	if err != nil {
		t.Fatalf("git %s: %v", args[0], err)
	}
	return out
}

func (r *Repo) git(stdin string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Env = append(cmd.Env, "GIT_DIR="+r.Dir,
		"GIT_COMMITTER_NAME=Ada Example", "GIT_COMMITTER_EMAIL=ada@example.com",
		"GIT_AUTHOR_NAME=Ada Example", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_DATE=2026-01-01T00:00:00Z", "GIT_AUTHOR_DATE=2026-01-01T00:00:00Z")
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
