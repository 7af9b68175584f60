package render_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// countingListener counts the connections to a port of this machine.
func countingListener(t *testing.T) (address string, connections *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			conn.Close()
		}
	}()
	return listener.Addr().String(), connections
}

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"

// TestNothingIsFetched builds kustomizations that refer to a server on this
// machine in every way there is, both with the scan, which refuses them, and
// without, which leaves it to the child.
func TestNothingIsFetched(t *testing.T) {
	address, connections := countingListener(t)
	url := "http://" + address
	for name, body := range map[string]string{
		"resource":              "resources: [" + url + "/x.yaml]",
		"git base":              "resources: ['" + url + "/org/repo//sub?ref=main']",
		"git base by suffix":    "resources: ['" + url + "/org/repo.git']",
		"git over ssh":          "resources: ['ssh://git@" + address + "/org/repo.git']",
		"component":             "resources: [a.yaml]\ncomponents: ['" + url + "/org/repo']",
		"crds":                  "resources: [a.yaml]\ncrds: [" + url + "/x.yaml]",
		"configurations":        "resources: [a.yaml]\nconfigurations: [" + url + "/x.yaml]",
		"patch":                 "resources: [a.yaml]\npatches: [{path: " + url + "/x.yaml}]",
		"strategic merge patch": "resources: [a.yaml]\npatchesStrategicMerge: [" + url + "/x.yaml]",
		"JSON patch":            "resources: [a.yaml]\npatchesJson6902: [{path: " + url + "/x.yaml, target: {version: v1, kind: ConfigMap, name: a}}]",
		"replacement":           "resources: [a.yaml]\nreplacements: [{path: " + url + "/x.yaml}]",
		"openapi":               "resources: [a.yaml]\nopenapi: {path: " + url + "/x.json}",
		"generator file":        "configMapGenerator: [{name: x, files: ['x=" + url + "/x.yaml']}]",
		"generator env":         "secretGenerator: [{name: x, envs: ['" + url + "/x.yaml']}]",
		"generators":            "generators: [" + url + "/x.yaml]",
		"transformers":          "resources: [a.yaml]\ntransformers: [" + url + "/x.yaml]",
		"validators":            "resources: [a.yaml]\nvalidators: [" + url + "/x.yaml]",
		"plugin's patch":        "resources: [a.yaml]\ntransformers: [\"{apiVersion: builtin, kind: PatchTransformer, metadata: {name: x}, path: '" + url + "/x.yaml'}\"]",
		"helm":                  "helmCharts: [{name: x, repo: '" + url + "', version: '1'}]",
		"other case":            "Resources: [" + url + "/x.yaml]",
		"merged":                "resources: [a.yaml]\npatches:\n- <<: {path: " + url + "/x.yaml}\n  target: {kind: ConfigMap}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := treetest.New(map[string]string{"env/kustomization.yaml": body + "\n", "env/a.yaml": configMap})
			r := newRenderer(render.Options{})
			if _, err := r.Render(t.Context(), render.Request{Tree: tree, Path: "env"}); len(sources.ProblemsOf(err)) == 0 {
				t.Errorf("rendered, error %v", err)
			}
			if items, _, err := r.Build(t.Context(), tree, "env", "env/kustomization.yaml"); err == nil {
				t.Errorf("built %d items", len(items))
			}
		})
	}
	t.Cleanup(func() {
		if n := connections.Load(); n > 0 {
			t.Errorf("%d connections were made", n)
		}
	})
}

func TestNoProgramIsRun(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ran")
	script := filepath.Join(t.TempDir(), "fn.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntouch "+mark+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	function := "apiVersion: example.com/v1\nkind: Fn\nmetadata:\n  name: x\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: " + script + "}\n"
	tree := treetest.New(map[string]string{
		"kustomization.yaml": "resources: [a.yaml]\ntransformers: [fn.yaml]\n",
		"a.yaml":             configMap, "fn.yaml": function,
	})
	r := newRenderer(render.Options{})
	if _, _, err := r.Build(t.Context(), tree, ".", "kustomization.yaml"); err == nil {
		t.Error("built")
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Error("the program was run")
	}
}

// TestReadsOnlyTheSnapshot asks, past the scan, for files of the machine.
func TestReadsOnlyTheSnapshot(t *testing.T) {
	for _, ref := range []string{"/etc/hostname", "../../../../etc/hostname", "x/../../../etc/hostname", "/proc/self/environ"} {
		tree := treetest.New(map[string]string{
			"env/kustomization.yaml": "configMapGenerator: [{name: x, files: ['x=" + ref + "']}]\n",
		})
		items, _, err := newRenderer(render.Options{}).Build(t.Context(), tree, "env", "env/kustomization.yaml")
		if err == nil {
			t.Errorf("%s: built %s", ref, items[0].Body)
		}
	}
}

// slow is a kustomization that kustomize needs many seconds for.
func slow(objects int) *treetest.Tree {
	var b bytes.Buffer
	for i := range objects {
		fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a%d}\n---\n", i)
	}
	return treetest.New(map[string]string{"kustomization.yaml": "namePrefix: x-\nresources: [a.yaml]\n", "a.yaml": b.String()})
}

func TestSlowBuildIsStoppedAtItsDeadline(t *testing.T) {
	r := newRenderer(render.Options{Timeout: 300 * time.Millisecond, Builds: 1})
	_, err := r.Render(t.Context(), render.Request{Tree: slow(5000), Path: "."})
	if len(sources.ProblemsOf(err)) != 1 || !strings.Contains(err.Error(), "kustomization.yaml: kustomize took longer than 300ms and was stopped") {
		t.Errorf("error %v", err)
	}
	if left := children(t, os.Getpid()); len(left) > 0 {
		t.Errorf("children are left: %v", left)
	}
}

func TestCancelledBuildIsStopped(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := newRenderer(render.Options{Builds: 1}).Render(ctx, render.Request{Tree: slow(5000), Path: "."})
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(sources.Problems)) {
		t.Errorf("error %v, which must not be blamed on the repository", err)
	}
	if left := children(t, os.Getpid()); len(left) > 0 {
		t.Errorf("children are left: %v", left)
	}
}

// children are the render processes that a process has.
func children(t *testing.T, parent int) (found []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		data, err := os.ReadFile(stat)
		if err != nil {
			continue // the process ended meanwhile
		}
		before, rest, _ := strings.Cut(string(data), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(strings.Fields(before)[0])
			found = append(found, pid)
		}
	}
	return found
}

func TestMemoryOfABuildIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("configMapGenerator:\n")
	for i := range 30 {
		fmt.Fprintf(&b, "- {name: a%d, files: [big.txt]}\n", i)
	}
	tree := treetest.New(map[string]string{"kustomization.yaml": b.String(), "big.txt": strings.Repeat("some text\n", 300_000)})
	r := newRenderer(render.Options{MemoryBytes: 96 << 20})
	_, err := r.Render(t.Context(), render.Request{Tree: tree, Path: "."})
	want := "kustomization.yaml: kustomize took more than 96 MiB of memory and was stopped (split the environment)"
	if err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
}

func TestAliasBombIsBounded(t *testing.T) {
	bomb := configMap + "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	tree := treetest.New(map[string]string{"kustomization.yaml": "namePrefix: x\nresources: [a.yaml]\n", "a.yaml": bomb})
	r := newRenderer(render.Options{MemoryBytes: 128 << 20, Timeout: 20 * time.Second})
	if _, err := r.Render(t.Context(), render.Request{Tree: tree, Path: "."}); len(sources.ProblemsOf(err)) == 0 {
		t.Errorf("error %v", err)
	}
}

func TestReadsOfABuildAreBounded(t *testing.T) {
	tree := treetest.New(map[string]string{
		"kustomization.yaml": "configMapGenerator: [{name: a, files: [one, two]}]\n",
		"one":                strings.Repeat("x", 600), "two": strings.Repeat("x", 600),
	})
	r := newRenderer(render.Options{ReadBytes: 1000})
	_, err := r.Render(t.Context(), render.Request{Tree: tree, Path: "."})
	if want := "two: is more than one render may read (split the environment)"; err == nil || err.Error() != want {
		t.Errorf("error %v", err)
	}
}

// brokenTree fails to read one file, as a damaged mirror does.
type brokenTree struct {
	*treetest.Tree
	broken string
}

var errDamaged = errors.New("the object is damaged")

func (b brokenTree) ReadFile(name string) ([]byte, error) {
	if name == b.broken {
		return nil, errDamaged
	}
	return b.Tree.ReadFile(name)
}

func TestUnreadableFileIsNeverAnAbsentOne(t *testing.T) {
	tree := treetest.New(map[string]string{
		"plain/a.yaml": named("a"), "plain/b.yaml": named("b"),
		"env/kustomization.yaml": "namePrefix: x-\nresources: [a.yaml, b.yaml]\n", "env/a.yaml": named("a"), "env/b.yaml": named("b"),
		"listed/kustomization.yaml": "resources: [a.yaml, b.yaml]\n", "listed/a.yaml": named("a"), "listed/b.yaml": named("b"),
	})
	for _, broken := range []string{"plain/b.yaml", "env/b.yaml", "env/kustomization.yaml", "listed/b.yaml"} {
		r := newRenderer(render.Options{})
		dir, _, _ := strings.Cut(broken, "/")
		result, err := r.Render(t.Context(), render.Request{Tree: brokenTree{tree, broken}, Path: dir})
		if !errors.Is(err, errDamaged) || errors.As(err, new(sources.Problems)) || result.Items != nil {
			t.Errorf("%s: %d items, error %v, which must not be blamed on the repository", broken, len(result.Items), err)
		}
	}
}

// TestChildEndsWithItsParent kills a process that renders, and wants its child
// to be gone too.
func TestChildEndsWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems cannot tie a child's life to its parent's")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), probeVariable+"=render")
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var child []int
	eventually(t, "a child", func() bool {
		child = children(t, parent.Process.Pid)
		return len(child) > 0
	})
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	eventually(t, "the end of the child", func() bool {
		return !slices.ContainsFunc(child, func(pid int) bool {
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return err == nil && strings.HasPrefix(string(name), "holdfast-render")
		})
	})
}

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s", what)
		}
	}
}
