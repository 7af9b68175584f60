package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// modulePath is the module whose examples/sandbox is built.
const modulePath = "github.com/holdfast-gitops/holdfast"

// keptBinaries is how many builds the cache holds: the current one, and those of
// other branches or checkouts. Each is a good hundred megabytes.
const keptBinaries = 3

// Build returns the path of the sandbox program, built from the checkout that
// contains the working directory. The result is cached per user under a name
// that depends on all that goes into it. Processes that want it at the same time
// wait for one build; notices go to log, since the first takes minutes.
func Build(ctx context.Context, log io.Writer) (string, error) {
	source, err := findSource()
	if err != nil {
		return "", err
	}
	flags, err := linkerFlags(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	hash, err := hashSource(source, flags)
	if err != nil {
		return "", fmt.Errorf("build the sandbox: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		// A container without a home directory.
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "holdfast")
	binary := filepath.Join(cache, "sandbox-"+hash, "sandbox")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	unlock, err := lock(ctx, filepath.Join(cache, "sandbox.lock"))
	if err != nil {
		return "", fmt.Errorf("build the sandbox: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil {
		return binary, nil // Another process built it while we waited.
	}
	if err := build(ctx, log, source, flags, binary); err != nil {
		return "", fmt.Errorf("build the sandbox in %s: %w", source, err)
	}
	prune(cache)
	return binary, nil
}

// build compiles to a temporary name, so that a build that is killed leaves
// nothing that looks finished.
func build(ctx context.Context, log io.Writer, source, flags, binary string) error {
	begin := time.Now()
	fmt.Fprintln(log, "building the Kubernetes control plane of examples/sandbox, once; the first time this takes some minutes")
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer func() { _ = os.Remove(tmp) }() // It is gone after the rename.
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", flags, "-o", tmp, ".")
	cmd.Dir = source
	// Flags meant for the tests of the main module, such as a race detector,
	// would make this build slower or impossible.
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", errors.Join(err, context.Cause(ctx)), output.Bytes())
	}
	if err := os.Rename(tmp, binary); err != nil {
		return err
	}
	fmt.Fprintf(log, "built %s in %s\n", binary, time.Since(begin).Round(time.Second))
	return nil
}

// findSource looks for examples/sandbox upwards from the working directory,
// which for a test is its package's directory.
func findSource() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the sandbox's source: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && slices.Contains(strings.Split(string(mod), "\n"), "module "+modulePath) {
			return filepath.Join(dir, "examples", "sandbox"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the sandbox's source: no go.mod of %s in %s or above", modulePath, start)
		}
	}
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)$`)

// linkerFlags are the flags that make the server tell the version of Kubernetes
// that it is, which its own build sets in the same way.
func linkerFlags(goMod string) (string, error) {
	mod, err := os.ReadFile(goMod)
	if err != nil {
		return "", fmt.Errorf("build the sandbox: %w", err)
	}
	m := kubernetesVersion.FindSubmatch(mod)
	if m == nil {
		return "", fmt.Errorf("build the sandbox: %s requires no k8s.io/kubernetes", goMod)
	}
	const set = " -X k8s.io/component-base/version."
	return fmt.Sprintf("-s -w"+set+"gitVersion=%s"+set+"gitMajor=%s"+set+"gitMinor=%s"+set+"gitTreeState=clean", m[1], m[2], m[3]), nil
}

// hashSource identifies a build by its inputs.
func hashSource(dir, flags string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, flags)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isInput(d.Name()) {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n%s", filepath.ToSlash(rel), len(b), b)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

func isInput(name string) bool {
	return name == "go.mod" || name == "go.sum" || strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

// lock waits until no other process builds. Waiting ends with ctx.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // Closing unlocks.
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for another build of the sandbox: %w", context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// prune removes the oldest builds. A cache that cannot be tidied still works.
func prune(cache string) {
	dirs, err := filepath.Glob(filepath.Join(cache, "sandbox-*"))
	if err != nil || len(dirs) <= keptBinaries {
		return
	}
	age := func(dir string) time.Time {
		info, err := os.Stat(dir)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(dirs, func(a, b string) int { return age(b).Compare(age(a)) })
	for _, dir := range dirs[keptBinaries:] {
		_ = os.RemoveAll(dir)
	}
}
