package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

// dialTimeout is how long a daemon may take to answer at its socket before the
// socket counts as left behind.
const dialTimeout = 2 * time.Second

// ErrInUse means that a daemon already answers at the socket.
var ErrInUse = errors.New("another daemon answers at this socket")

// ListenSocket listens on the socket of a data directory, which only its owner
// can use. A socket left behind by a daemon that was killed is replaced; one that
// answers, and anything that is no socket, is not.
//
// The socket is made in a folder that only we can enter, gets its mode there,
// and is then renamed into its place, so that there is no moment at which others
// could connect.
func ListenSocket(dir string) (net.Listener, error) {
	path := filepath.Join(dir, config.SocketName)
	if err := checkStale(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("listen on socket: %w", err)
	}
	private, err := os.MkdirTemp(dir, ".s")
	if err != nil {
		return nil, fmt.Errorf("listen on socket: %w", err)
	}
	defer os.RemoveAll(private)
	l, err := bind(filepath.Join(private, "s"))
	if err != nil {
		return nil, err
	}
	info, err := publish(filepath.Join(private, "s"), path)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	return &socketListener{UnixListener: l, path: path, info: info}, nil
}

// checkStale says why what is at path must not be replaced.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is no socket, and is not replaced", path)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%s: %w", path, ErrInUse)
	}
	// Refused and nothing else means that nobody listens: a daemon that is busy
	// or that belongs to somebody else must keep its socket.
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find out whether a daemon answers at %s: %w", path, err)
	}
	return nil
}

func bind(path string) (*net.UnixListener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENAMETOOLONG) {
		return nil, fmt.Errorf("listen on socket in %s: the path is too long for a socket, which may have about 100 bytes: %w",
			filepath.Dir(filepath.Dir(path)), err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would remove the name that publish gave up
	return l, nil
}

func publish(from, to string) (fs.FileInfo, error) {
	if err := os.Chmod(from, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(from, to); err != nil {
		return nil, err
	}
	return os.Lstat(to)
}

// socketListener removes its socket when it is closed, unless another daemon has
// put its own there.
type socketListener struct {
	*net.UnixListener
	path string
	info fs.FileInfo
	once sync.Once
}

// Addr is the socket's own name, not the one it was made under.
func (l *socketListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening.
func (l *socketListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
			os.Remove(l.path) // at worst a stale socket stays, which the next start replaces
		}
	})
	return l.UnixListener.Close()
}
