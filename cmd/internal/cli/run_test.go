package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/daemon"
)

func kill(t *testing.T, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

func TestRunTurnsFlagsIntoAConfiguration(t *testing.T) {
	dir := t.TempDir()
	var got daemon.Options
	a := &app{stdout: io.Discard, stderr: io.Discard, env: os.Getenv, daemon: func(_ context.Context, o daemon.Options) error {
		got = o
		return nil
	}}
	root := a.root()
	root.SetArgs([]string{"run", "--repo", dir, "--path", "apps", "--grant", "cluster", "--data-dir", dir, "--listen", "127.0.0.1:0", "--kubeconfig", dir + "/kube", "--context", "x", "--interval", "5s"})
	if code := a.report(root.Execute()); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	c := got.Config
	if c.DataDir != dir || c.Listen != "127.0.0.1:0" || c.Sources[0].Dir != dir || c.Sources[0].Implicit.Path != "apps" ||
		!c.Sources[0].Grants[0].Cluster || c.Targets[0].Kubeconfig != dir+"/kube" || c.Targets[0].Context != "x" || c.Sources[0].Interval.Seconds() != 5 {
		t.Errorf("configuration %+v", c)
	}
	if got.Reload != nil || got.ConfigPath != "" {
		t.Error("there is no file to read again")
	}
}

func TestRunReadsItsFileAgain(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/holdfast.yaml"
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sources: [{name: one, dir: x}]")
	a := &app{stdout: io.Discard, stderr: io.Discard, env: os.Getenv, daemon: func(_ context.Context, o daemon.Options) error {
		write("sources: [{name: two, dir: x}]")
		c, err := o.Reload()
		if err != nil || c.Sources[0].Name != "two" || c.DataDir != dir {
			t.Errorf("Reload = %+v, %v", c, err)
		}
		write("sorces: []")
		if _, err := o.Reload(); err == nil {
			t.Error("a bad file was accepted")
		}
		return nil
	}}
	root := a.root()
	root.SetArgs([]string{"run", "--config", file, "--data-dir", dir})
	if code := a.report(root.Execute()); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}

func TestSignalsReachTheDaemon(t *testing.T) {
	a := &app{stderr: io.Discard, daemon: func(ctx context.Context, o daemon.Options) error {
		kill(t, unix.SIGUSR1)
		if s := <-o.Signals; s != unix.SIGUSR1 {
			t.Errorf("got %v", s)
		}
		kill(t, unix.SIGHUP)
		if s := <-o.Signals; s != unix.SIGHUP {
			t.Errorf("got %v", s)
		}
		kill(t, unix.SIGTERM)
		<-ctx.Done()
		return ctx.Err()
	}}
	if code := a.report(a.serve(t.Context(), daemon.Options{}, zerolog.Nop())); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var errs bytes.Buffer
	a := &app{stderr: &errs, daemon: func(ctx context.Context, _ daemon.Options) error {
		kill(t, unix.SIGINT)
		<-ctx.Done()
		kill(t, unix.SIGTERM)
		<-release // a daemon that does not end
		return nil
	}}
	if code := a.report(a.serve(t.Context(), daemon.Options{}, zerolog.Nop())); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(errs.String(), "stopped at once by a second signal: terminated") {
		t.Errorf("said %q", errs.String())
	}
}

func TestAFailingDaemonEndsWithOne(t *testing.T) {
	var errs bytes.Buffer
	a := &app{stderr: &errs, daemon: func(context.Context, daemon.Options) error { return errors.New("listen: address in use") }}
	if code := a.report(a.serve(t.Context(), daemon.Options{}, zerolog.Nop())); code != 1 || errs.String() != "error: listen: address in use\n" {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

func TestLibrariesLogAsWeDoAndLower(t *testing.T) {
	var out bytes.Buffer
	adoptLibraries(newLogger(&out, config.Log{Level: "debug", Format: "auto"}, false))
	klog.InfoS("starting reflector", "type", "v1.Pod")
	klog.ErrorS(errors.New("refused"), "watch failed")
	slog.Warn("slow")
	want := []string{
		`"level":"debug","library":"kubernetes","type":"v1.Pod"`,
		`"level":"warn","library":"kubernetes"`,
		`"level":"warn"`,
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for i, part := range want {
		if !strings.Contains(lines[i], part) {
			t.Errorf("line %d has no %s: %s", i, part, lines[i])
		}
	}
	out.Reset()
	adoptLibraries(newLogger(&out, config.Log{Level: "info", Format: "json"}, false))
	klog.InfoS("starting reflector")
	if out.Len() > 0 {
		t.Errorf("libraries are loud: %s", out.String())
	}
}
