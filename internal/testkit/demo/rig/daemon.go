package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Settings are what a daemon is configured with.
type Settings struct {
	// Dir holds its configuration, its log and its data.
	Dir string
	// Program is the holdfast binary.
	Program    string
	Kubeconfig string
	// RepoURL is the one source, called "shop", with the specs in environments/.
	RepoURL string
	// Interval is how often the source is polled.
	Interval time.Duration
	// Listen is the address for HTTP; empty for a free port of the loopback.
	Listen string
}

// Daemon is a Holdfast that runs as a process of its own.
type Daemon struct {
	Settings
	// Config and LogFile are the paths of its files.
	Config  string
	LogFile string

	process *exec.Cmd
	// exited is closed when the process is gone, and exit says how.
	exited chan struct{}
	exit   error
}

// NewDaemon writes the configuration. It starts nothing.
func NewDaemon(s Settings) (*Daemon, error) {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the daemon's folder: %w", err)
	}
	s.Dir = dir
	if s.Listen == "" {
		if s.Listen, err = FreeAddress("127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	d := &Daemon{Settings: s, Config: filepath.Join(dir, "holdfast.yaml"), LogFile: filepath.Join(dir, "holdfast.log")}
	if err := os.MkdirAll(d.DataDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := os.WriteFile(d.Config, []byte(d.text()), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return d, nil
}

// DataDir is the daemon's data directory, in which its socket is.
func (d *Daemon) DataDir() string { return filepath.Join(d.Dir, "data") }

func (d *Daemon) text() string {
	return fmt.Sprintf(`# Written by the demo; see examples/holdfast.yaml for what each key means.
listen: %s
dataDir: data
log:
  format: console
targets:
  - name: default
    kubeconfig: %s
sources:
  - name: shop
    url: %s
    ref: main
    interval: %s
    grants:
      - target: default
        namespaces: ["*"]
        cluster: true
`, strconv.Quote(d.Listen), strconv.Quote(d.Kubeconfig), d.RepoURL, d.Interval)
}

// Start starts the process, in a group of its own: a Ctrl-C on the terminal is
// for us, who then stop things in good order. The log is appended to.
func (d *Daemon) Start() error {
	log, err := os.OpenFile(d.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the daemon's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(d.Program, "run", "--config", d.Config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	d.process, d.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		d.exit = cmd.Wait()
		close(exited)
	}(d.exited)
	return nil
}

// PID is the process's id.
func (d *Daemon) PID() int { return d.process.Process.Pid }

// Client calls the daemon over its socket.
func (d *Daemon) Client() *Client { return newClient(filepath.Join(d.DataDir(), "holdfast.sock")) }

// WaitReady waits until every environment has been compared, and says why the
// daemon is not ready if it takes longer than ctx allows.
func (d *Daemon) WaitReady(ctx context.Context) error {
	c := d.Client()
	return Until(ctx, func(ctx context.Context) error {
		select {
		case <-d.exited:
			return Fatal(fmt.Errorf("the daemon ended: %v\n%s", d.exit, d.LastLog()))
		default:
			return c.Ready(ctx)
		}
	})
}

// LastLog is the end of the log, for an error.
func (d *Daemon) LastLog() string {
	text, err := os.ReadFile(d.LogFile)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-15):], "\n  ")
}

// Kill ends the process as a power cut would, and waits until it is gone.
func (d *Daemon) Kill() error {
	if err := d.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the daemon: %w", err)
	}
	<-d.exited
	return nil
}

// stopTime is how long the daemon may take to stop in good order.
const stopTime = 15 * time.Second

// Stop asks the process to end, and kills it if it takes too long, which is an
// error. A daemon that was never started, or has ended, is fine.
func (d *Daemon) Stop() error {
	if d.process == nil {
		return nil
	}
	select {
	case <-d.exited:
		return nil
	default:
	}
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	select {
	case <-d.exited:
		return nil
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("the daemon did not stop within %s", stopTime), d.Kill())
	}
}

// FreeAddress is the wanted address if it can be listened on, else one on the
// same host with a port that can.
func FreeAddress(want string) (string, error) {
	host, _, err := net.SplitHostPort(want)
	if err != nil {
		return "", fmt.Errorf("choose an address: %w", err)
	}
	l, err := net.Listen("tcp", want)
	if err != nil {
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return "", fmt.Errorf("choose an address: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
