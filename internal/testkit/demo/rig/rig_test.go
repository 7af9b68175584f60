package rig

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestCountRequestsLeavesOutWatchesAndLeases(t *testing.T) {
	got, err := countRequests([]byte(`# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="",resource="configmaps",verb="GET",version="v1"} 3
apiserver_request_total{code="404",group="",resource="configmaps",verb="GET",version="v1"} 1
apiserver_request_total{code="200",group="apps",resource="deployments",verb="APPLY",version="v1"} 1.2e+03
apiserver_request_total{code="200",group="",resource="configmaps",verb="WATCH",version="v1"} 9
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",verb="PUT",version="v1"} 9
apiserver_request_total{code="200",group="",resource="",verb="GET",version=""} 9
other_total{resource="configmaps",verb="GET"} 9
`))
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != "1200 APPLY deployments, 4 GET configmaps" || got.Total() != 1204 {
		t.Errorf("counted %s, %d in all", got, got.Total())
	}
	since := got.Since(Requests{"GET configmaps": 4, "APPLY deployments": 1190})
	if since.String() != "10 APPLY deployments" {
		t.Errorf("since then: %s", since)
	}
}

func TestUntilSaysWhatWasStillNotSo(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("gave up"))
	defer cancel()
	err := Until(ctx, func(context.Context) error { return errors.New("two of three are there") })
	if err == nil || err.Error() != "gave up while waiting: two of three are there" {
		t.Errorf("error: %v", err)
	}
}

func TestUntilGivesUpOnWhatWaitingWillNotMend(t *testing.T) {
	gone, calls := errors.New("it has ended"), 0
	err := Until(t.Context(), func(context.Context) error { calls++; return Fatal(gone) })
	if !errors.Is(err, gone) || calls != 1 {
		t.Errorf("error %v after %d calls", err, calls)
	}
}

func TestCommitsKeepTheOtherFiles(t *testing.T) {
	dir := t.TempDir()
	r, err := NewRepo(dir, "web", map[string]string{"a/one": "1", "a/two": "2"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first, err := r.Commit(map[string]string{"a/two": Delete})
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Commit(map[string]string{"a/three": "3"})
	if err != nil || first == second {
		t.Fatalf("commits %s and %s: %v", first, second, err)
	}
	files, err := exec.Command("git", "--git-dir", filepath.Join(dir, "web.git"), "ls-tree", "-r", "--name-only", second).Output()
	if err != nil || string(files) != "a/one\na/three\n" {
		t.Errorf("files %q: %v", files, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(map[string]string{"a/four": "4"}); err == nil {
		t.Error("no error although the repository is gone")
	}
}
