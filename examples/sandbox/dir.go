package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/klog/v2"
)

// Names of files in a sandbox's directory.
const (
	logFile     = "sandbox.log"
	etcdLogFile = "etcd.log"
	portFile    = "port"
	lockFile    = "lock"
	socketFile  = "etcd.sock"
)

// directory is a sandbox's own directory, locked for as long as it is open.
type directory struct {
	root string
	lock *os.File
	log  *os.File
	// ephemeral directories are removed when closed.
	ephemeral bool
}

// openDir creates the directory when absent, locks it and sends the components'
// logs to it. The kernel drops the lock with the process, however that ends.
//
// An ephemeral directory must be new: it was made for this process alone.
func openDir(root string, ephemeral bool) (*directory, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("create the sandbox's directory: %w", err)
	}
	d := &directory{root: root}
	var err error
	if d.lock, err = os.OpenFile(d.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open the sandbox's lock: %w", err)
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		// The content only names the owner to a person; an error reading it
		// must not hide the real one.
		owner, _ := os.ReadFile(d.path(lockFile))
		d.close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("directory %s is in use by another sandbox (process %s): stop that one or choose another --dir", root, strings.TrimSpace(string(owner)))
		}
		return nil, fmt.Errorf("lock %s: %w", d.path(lockFile), err)
	}
	if err := d.lock.Truncate(0); err != nil {
		return nil, fmt.Errorf("note the owner in the sandbox's lock: %w", err)
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return nil, fmt.Errorf("note the owner in the sandbox's lock: %w", err)
	}
	if err := errors.Join(d.openLog(), d.enter()); err != nil {
		d.close()
		return nil, err
	}
	d.ephemeral = ephemeral
	return d, nil
}

// openLog sends what the Kubernetes components log to a file; only their last
// words before a crash reach standard error too. The log of the start before is
// kept beside it: after a crash that is the one wanted.
func (d *directory) openLog() error {
	for _, name := range []string{logFile, etcdLogFile} {
		if err := os.Rename(d.path(name), d.path(name+".previous")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep the log of the last start: %w", err)
		}
	}
	f, err := os.OpenFile(d.path(logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	d.log = f
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("set up logging: %s: %w", name, err)
		}
	}
	klog.SetOutput(f)
	return nil
}

// path is the path of a file in the directory.
func (d *directory) path(name string) string {
	return filepath.Join(d.root, name)
}

// enter makes the directory the working directory, where etcd's socket is known
// by its name alone: the path of a socket is limited to about a hundred bytes,
// which the directories of tests exceed.
func (d *directory) enter() error {
	if err := os.Chdir(d.root); err != nil {
		return fmt.Errorf("enter the sandbox's directory: %w", err)
	}
	// Left behind by a killed process; the lock says that nobody listens.
	if err := os.Remove(socketFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	return nil
}

// listen opens the port of the API server: the wanted one, else the one used
// before, so that an old kubeconfig keeps working, else any free one.
func (d *directory) listen(want int) (net.Listener, error) {
	ln, err := d.tryPorts(want)
	if err != nil {
		return nil, err
	}
	if err := writeFileAtomic(d.path(portFile), []byte(strconv.Itoa(port(ln))), 0o600); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("remember the port: %w", err)
	}
	return ln, nil
}

func (d *directory) tryPorts(want int) (net.Listener, error) {
	if want != 0 {
		ln, err := listenLoopback(want)
		if err != nil {
			return nil, fmt.Errorf("listen on the port asked for: %w", err)
		}
		return ln, nil
	}
	if b, err := os.ReadFile(d.path(portFile)); err == nil {
		if before, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			ln, err := listenLoopback(before)
			if err == nil {
				return ln, nil
			}
			fmt.Fprintf(os.Stderr, "sandbox: port %d, used before, is taken: an old kubeconfig stops working\n", before)
		}
	}
	// Below the range from which the kernel picks ports for outgoing
	// connections, so that the port is likely to be free again after a restart.
	for range 50 {
		if ln, err := listenLoopback(20000 + rand.IntN(10000)); err == nil {
			return ln, nil
		}
	}
	return listenLoopback(0)
}

func listenLoopback(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// close unlocks the directory. Errors are of no use to anybody by now.
func (d *directory) close() {
	if d.log != nil {
		klog.Flush()
		klog.SetOutput(io.Discard)
		_ = d.log.Close()
	}
	if d.ephemeral {
		_ = os.RemoveAll(d.root)
	}
	_ = d.lock.Close()
}

// writeFileAtomic replaces a file as a whole, so that a reader, or a start after
// a kill, never sees half of it.
func writeFileAtomic(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
