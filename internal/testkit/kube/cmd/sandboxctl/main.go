// Command sandboxctl builds the Kubernetes control plane of examples/sandbox and
// runs a command with one.
//
//	sandboxctl build                        build it and print its path
//	sandboxctl with-sandbox -- CMD ARGS...  start one, run CMD with
//	                                        HOLDFAST_TEST_KUBECONFIG set, stop it
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube/sandbox"
)

const usage = `usage:
  sandboxctl build                        build the sandbox and print its path
  sandboxctl with-sandbox -- CMD ARGS...  run CMD with HOLDFAST_TEST_KUBECONFIG
                                          pointing to a fresh sandbox`

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandboxctl:", err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

func run(args []string) (code int, err error) {
	switch {
	case len(args) == 1 && args[0] == "build":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		binary, err := sandbox.Build(ctx, os.Stderr)
		if err == nil {
			fmt.Println(binary)
		}
		return 0, err
	case len(args) > 2 && args[0] == "with-sandbox" && args[1] == "--":
		return withSandbox(args[2:])
	default:
		return 2, errors.New("unknown arguments\n" + usage)
	}
}

// withSandbox runs a command with a sandbox of its own. The exit code is the
// command's.
func withSandbox(command []string) (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	p, err := start(signals)
	if err != nil {
		return 1, err
	}
	code, err := runCommand(command, p.Kubeconfig, signals, p.Done())
	// The command's outcome counts; a sandbox that stops badly is told about
	// all the same.
	return code, errors.Join(err, p.Stop())
}

// start starts the sandbox; a signal meanwhile gives up.
func start(signals <-chan os.Signal) (*sandbox.Process, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	started := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case s := <-signals:
			cancel(fmt.Errorf("interrupted by signal %s", s))
		case <-started:
		}
	}()
	defer func() {
		close(started)
		<-watched
		cancel(nil)
	}()
	binary, err := sandbox.Build(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	return sandbox.Start(ctx, binary, sandbox.Options{})
}

// runCommand runs the command and forwards signals to it. Ctrl-C reaches it from
// the terminal too; that does no harm.
func runCommand(command []string, kubeconfig string, signals <-chan os.Signal, lost <-chan struct{}) (int, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), sandbox.KubeconfigVariable+"="+kubeconfig)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("run %s: %w", command[0], err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			// An error means that it has just ended, which done tells.
			_ = cmd.Process.Signal(s)
		case <-lost:
			// Let the command fail by itself, with its own words about it.
			fmt.Fprintln(os.Stderr, "sandboxctl: the sandbox ended before the command")
			lost = nil
		case err := <-done:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
					return 128 + int(status.Signal()), nil
				}
				return exit.ExitCode(), nil
			}
			return 0, err
		}
	}
}
