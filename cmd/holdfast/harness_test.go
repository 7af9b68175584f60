package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/cli"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// TestMain lets the test binary be the program: as the daemon that a test
// starts, and as the child that renders for it.
func TestMain(m *testing.M) {
	if render.IsChild() {
		os.Exit(render.ChildMain())
	}
	if silence := os.Getenv(impatienceVariable); silence != "" {
		os.Exit(impatient(silence, os.Args[3]))
	}
	if os.Getenv("HOLDFAST_TEST_PROGRAM") != "" {
		os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// program is the holdfast program with arguments.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_PROGRAM=1")
	return cmd
}

// stage is a cluster, a repository and a daemon.
type stage struct {
	t          *testing.T
	git        *gitserver.Server
	repo       *gitserver.Repo
	objects    dynamic.Interface
	kubeconfig string
	dir        string
	config     string
	// installation is the stage's own: daemons of one installation write to a
	// cluster one at a time.
	installation string

	// patience bounds a wait; zero has a default.
	patience time.Duration

	// env is for the daemon.
	env    []string
	daemon *exec.Cmd
	log    *os.File
	client *api.Client
}

var stages atomic.Int64

// newStage prepares a stage on a cluster; the daemon is not started.
func newStage(t *testing.T, kubeconfig string, objects dynamic.Interface) *stage {
	t.Helper()
	s := &stage{t: t, git: gitserver.Start(t), objects: objects, kubeconfig: kubeconfig, dir: t.TempDir()}
	s.installation = fmt.Sprintf("test-%d-%d", os.Getpid(), stages.Add(1))
	s.repo = s.git.Repo(t, "shop")
	s.writeConfig("interval: 1h")
	client, err := api.NewClient(api.ClientOptions{Socket: filepath.Join(s.dir, "data", "holdfast.sock")})
	if err != nil {
		t.Fatal(err)
	}
	s.client = client
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			s.printLog()
		}
	})
	return s
}

// sharedStage is a stage on the cluster that all tests share.
func sharedStage(t *testing.T) *stage {
	t.Helper()
	objects, err := dynamic.NewForConfig(kube.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	return newStage(t, kube.Kubeconfig(t), objects)
}

func (s *stage) writeConfig(source string) {
	s.t.Helper()
	s.config = filepath.Join(s.dir, "holdfast.yaml")
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
dataDir: %s
installation: %s
targets:
- {name: default, kubeconfig: %s, stateNamespace: holdfast-test}
sources:
- name: shop
  url: %s
  ref: main
  %s
  grants: [{target: default, namespaces: ["*"], cluster: true}]
`, filepath.Join(s.dir, "data"), s.installation, s.kubeconfig, s.repo.URL, source)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// start runs the daemon on the stage's configuration.
func (s *stage) start() {
	s.t.Helper()
	s.run("run", "--config", s.config, "--log-format", "json")
}

// run runs the daemon and waits until it answers.
func (s *stage) run(args ...string) {
	s.t.Helper()
	var err error
	if s.log, err = os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.daemon = program(args...)
	s.daemon.Env = append(s.daemon.Env, s.env...)
	s.daemon.Stdout, s.daemon.Stderr = s.log, s.log
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.until("the daemon answers", func() error {
		_, err := s.client.Environments(context.Background())
		return err
	})
}

func (s *stage) kill() {
	if s.daemon != nil && s.daemon.ProcessState == nil {
		_ = s.daemon.Process.Kill()
		_ = s.daemon.Wait()
	}
}

// stop ends the daemon by SIGTERM, which must succeed.
func (s *stage) stop() {
	s.t.Helper()
	if err := s.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := s.daemon.Wait(); err != nil {
		s.t.Errorf("stopped by SIGTERM: %v", err)
	}
}

func (s *stage) printLog() {
	if s.log == nil {
		return
	}
	if _, err := s.log.Seek(0, io.SeekStart); err == nil {
		b, _ := io.ReadAll(io.LimitReader(s.log, 20_000)) // best effort: it only helps to read a failure
		s.t.Logf("the daemon's log:\n%s", b)
	}
}

// until polls a condition, since some of what is waited for has no event.
func (s *stage) until(what string, ok func() error) {
	s.t.Helper()
	deadline := time.After(cmp.Or(s.patience, 4*time.Minute))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			s.t.Fatalf("waited for: %s; still: %v", what, err)
		case <-tick.C:
		}
	}
}

// resync asks for a run of one environment and waits for its receipt.
func (s *stage) resync(name string) reconciler.Run {
	s.t.Helper()
	return s.resyncWith(api.ResyncRequest{Environments: []string{name}})
}

func (s *stage) resyncWith(r api.ResyncRequest) reconciler.Run {
	s.t.Helper()
	got, err := s.client.Resync(context.Background(), r, 2*time.Minute)
	if err != nil || len(got.Runs) != 1 {
		s.t.Fatalf("resync: %v, %d receipts", err, len(got.Runs))
	}
	return got.Runs[0]
}

// settled waits until an environment's last run had a result.
func (s *stage) settled(name string, want reconciler.Result) reconciler.Status {
	s.t.Helper()
	var status reconciler.Status
	s.until(name+" is "+string(want), func() error {
		var err error
		if status, err = s.client.Environment(context.Background(), name); err != nil {
			return err
		}
		if status.LastRun == nil || status.LastRun.Result != want {
			return fmt.Errorf("last run %+v, errors %v", status.LastRun, status.Errors)
		}
		return nil
	})
	return status
}

var cms = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// value is a ConfigMap's value, with an error while it is not there.
func (s *stage) value(namespace, name, key string) (string, error) {
	u, err := s.objects.Resource(cms).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	v, _, err := unstructured.NestedString(u.Object, "data", key)
	return v, err
}

func (s *stage) expectValue(namespace, name, key, want string) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s/%s has %s=%s", namespace, name, key, want), func() error {
		got, err := s.value(namespace, name, key)
		if err == nil && got != want {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
}

func environmentSpec(name, path, namespace, more string) string {
	return fmt.Sprintf(`apiVersion: holdfast.dev/v1alpha1
kind: Environment
metadata: {name: %s}
spec:
  path: %s
  namespace: %s
%s`, name, path, namespace, indent(more))
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

func configMap(name, key, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {%s: %q}\n", name, key, value)
}
