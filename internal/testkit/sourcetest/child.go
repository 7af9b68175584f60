package sourcetest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The environment of a child process, which is the test program again: the
// folder of the cache, the origin, and how large files may become.
const (
	childDir   = "HOLDFAST_TEST_CHILD_DIR"
	childURL   = "HOLDFAST_TEST_CHILD_URL"
	childLimit = "HOLDFAST_TEST_CHILD_LIMIT"
)

// Child is to be called by TestMain. In a child process it fetches once, says
// what came of it, and ends the process; otherwise it does nothing.
func Child(open func(url, dir string) (Source, error)) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return
	}
	if text := os.Getenv(childLimit); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			panic(err)
		}
		// What is written beyond it is an error then, as on a full disk, instead
		// of the end of the process.
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			panic(err)
		}
	}
	s, err := open(os.Getenv(childURL), dir)
	if err != nil {
		panic(err)
	}
	fmt.Println("begin")
	snap, err := s.Fetch(context.Background())
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("fetched", snap.Revision.ID)
	os.Exit(0)
}

// Cache is a source with a cache on disk that outlives the process.
type Cache struct {
	Harness
	// URL is the origin, and Dir where the cache is now.
	URL string
	Dir *string
	// Left names what is in the cache beside what belongs there.
	Left func(t *testing.T) []string
}

// fetchInChild fetches in a child process, with a limit on the size of files
// unless that is empty. Once it has begun it is killed after a delay, unless that
// is 0. It answers the child's last words, empty if it was killed before, and how
// long it took.
func (c Cache) fetchInChild(t *testing.T, limit string, kill time.Duration) (said string, took time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+*c.Dir, childURL+"="+c.URL, childLimit+"="+limit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "begin" {
		_ = cmd.Wait() // why it did not begin is in its output
		t.Fatalf("the child did not begin: %q %s", lines.Text(), stderr.String())
	}
	began := time.Now()
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() }) // fails if it has ended
		defer timer.Stop()
	}
	for lines.Scan() {
		said = lines.Text()
	}
	_ = cmd.Wait() // that it was killed is what is wanted
	return said, time.Since(began)
}
