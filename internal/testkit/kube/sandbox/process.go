package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout bounds a start. The program has a shorter bound of its own
	// and says what it waited for.
	startTimeout = 4 * time.Minute
	// stopTimeout bounds an orderly stop.
	stopTimeout = 30 * time.Second
	// readyPrefix begins the line that the program prints when it is ready.
	readyPrefix = "sandbox ready: "
)

// Options says how a sandbox is started.
type Options struct {
	// Dir holds the sandbox and survives it. Without one it is ephemeral: a
	// temporary directory that goes when the sandbox ends.
	Dir string
	// Args are further arguments of the program, such as --fail-image.
	Args []string
}

// Process is a running sandbox. It ends at the latest when this process does,
// in whatever way: its standard input is a pipe that ends with us.
type Process struct {
	// Kubeconfig is the path of a kubeconfig for it.
	Kubeconfig string

	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed when the process has been waited for
	err   error         // its end, once done is closed
	said  *tail
}

// Start runs a built sandbox and returns when it is ready.
func Start(ctx context.Context, binary string, o Options) (*Process, error) {
	args := []string{"--exit-on-stdin-close"}
	if o.Dir != "" {
		args = append(args, "--dir", o.Dir)
	} else {
		args = append(args, "--ephemeral")
	}
	p := &Process{cmd: exec.Command(binary, append(args, o.Args...)...), done: make(chan struct{}), said: &tail{}}
	p.cmd.Stderr = p.said
	// A Ctrl-C in a terminal goes to the whole process group; a sandbox must
	// outlive those that still talk to it, and ends by its standard input.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	ready := make(chan string, 1)
	go p.watch(stdout, ready)
	if err := p.awaitReady(ctx, ready); err != nil {
		p.Kill()
		return nil, fmt.Errorf("start the sandbox: %w\n%s", err, p.said)
	}
	return p, nil
}

// watch reads the program's output to its end and then waits for the process, in
// this order because Wait closes the pipe.
func (p *Process) watch(stdout io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), readyPrefix); ok {
			if _, file, ok := strings.Cut(rest, " kubeconfig "); ok {
				ready <- file
			}
		}
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *Process) awaitReady(ctx context.Context, ready <-chan string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %s", startTimeout))
	defer cancel()
	select {
	case p.Kubeconfig = <-ready:
		return nil
	case <-p.done:
		if p.err == nil {
			return errors.New("it ended before it was ready")
		}
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop asks the sandbox to end and waits for it.
func (p *Process) Stop() error {
	// An error says that it has ended already.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("stop the sandbox: still running after %s and killed\n%s", stopTimeout, p.said)
	}
	if p.err != nil {
		return fmt.Errorf("stop the sandbox: %w\n%s", p.err, p.said)
	}
	return nil
}

// Kill ends the sandbox without a chance to do anything, as a power cut would,
// and waits for it. An ephemeral directory then stays behind.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // It has ended already, otherwise.
	_ = p.stdin.Close()
	<-p.done
}

// Freeze stops the sandbox where it is: connections are accepted by the kernel
// and nothing is answered. It returns when nothing runs any more.
func (p *Process) Freeze() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze the sandbox: %w", err)
	}
	if err := awaitFrozen(p.cmd.Process.Pid); err != nil {
		return fmt.Errorf("freeze the sandbox: %w", err)
	}
	return nil
}

// Thaw lets a frozen sandbox go on.
func (p *Process) Thaw() error {
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("thaw the sandbox: %w", err)
	}
	return nil
}

// tail keeps the last words of a process for an error message.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10

// Write keeps what is written, up to a limit from the end.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = bytes.Clone(t.buf[over:])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
