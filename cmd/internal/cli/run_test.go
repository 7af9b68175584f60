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

// TestABindThatOthersReachHasToBeSaidTwice: once is an error that says how, and no
// daemon begins.
func TestABindThatOthersReachHasToBeSaidTwice(t *testing.T) {
	dir := t.TempDir()
	one, two := dir+"/one.yaml", dir+"/two.yaml"
	for file, text := range map[string]string{
		one: "listen: 0.0.0.0:8080\nsources: [{name: one, dir: x}]\n",
		two: "listen: 0.0.0.0:8080\nallowNonLoopback: true\nsources: [{name: one, dir: x}]\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const flag, file = "or say --allow-non-loopback as well", "or say allowNonLoopback: true as well"
	for name, tt := range map[string]struct {
		args   []string
		listen string
		errs   []string
	}{
		"the flag":                {args: []string{"--repo", dir, "--listen", "0.0.0.0:8080"}, errs: []string{"--listen", `"0.0.0.0:8080" can be reached from other machines`, flag}},
		"no host":                 {args: []string{"--repo", dir, "--listen", ":8080"}, errs: []string{flag}},
		"an address of this host": {args: []string{"--repo", dir, "--listen", "[2001:db8::1]:8080"}, errs: []string{flag}},
		"a name":                  {args: []string{"--repo", dir, "--listen", "example.com:8080"}, errs: []string{flag}},
		"with a token":            {args: []string{"--repo", dir, "--listen", ":8080", "--token-file", one}, errs: []string{flag}},
		"the file":                {args: []string{"--config", one}, errs: []string{one + ":1:", "can be reached from other machines", file}},
		"the flag twice":          {args: []string{"--repo", dir, "--listen", ":8080", "--allow-non-loopback"}, listen: ":8080"},
		"the file twice":          {args: []string{"--config", two}, listen: "0.0.0.0:8080"},
		"loopback":                {args: []string{"--repo", dir, "--listen", "[::1]:8080"}, listen: "[::1]:8080"},
		"the second word alone":   {args: []string{"--repo", dir, "--allow-non-loopback"}, listen: config.DefaultListen},
	} {
		t.Run(name, func(t *testing.T) {
			var errs bytes.Buffer
			began := ""
			a := &app{stdout: io.Discard, stderr: &errs, env: os.Getenv, daemon: func(_ context.Context, o daemon.Options) error {
				began = o.Config.Listen
				return nil
			}}
			root := a.root()
			root.SetArgs(append([]string{"run", "--data-dir", dir + "/data"}, tt.args...))
			want := 0
			if tt.listen == "" {
				want = 3
			}
			if code := a.report(root.Execute()); code != want || began != tt.listen {
				t.Errorf("exit code %d, want %d; a daemon began at %q, want %q: %s", code, want, began, tt.listen, errs.String())
			}
			for _, part := range tt.errs {
				if !strings.Contains(errs.String(), part) {
					t.Errorf("the error does not say %q: %s", part, errs.String())
				}
			}
		})
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
