package server

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// socketDir is short: the path of a socket has about a hundred bytes.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSocketIsOnlyForItsOwner(t *testing.T) {
	dir := filepath.Join(socketDir(t), "data")
	l, err := ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, config.SocketName)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if l.Addr().String() != path {
		t.Errorf("address %s", l.Addr())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("data directory holds %v, %v", entries, err)
	}
	if _, err := ListenSocket(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second listener got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket stayed: %v", err)
	}
}

func TestASocketThatWasLeftBehindIsReplaced(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, config.SocketName)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as after SIGKILL
	left.Close()
	l, err := ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestWhatIsNoSocketIsNotReplaced(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, config.SocketName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(dir); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("ListenSocket = %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestAClosedListenerLeavesAnothersSocket(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, config.SocketName)
	first, err := ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestTooLongAPathIsExplained(t *testing.T) {
	if _, err := ListenSocket(filepath.Join(socketDir(t), strings.Repeat("x", 120))); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("ListenSocket = %v", err)
	}
}

// started is a server on real listeners.
type started struct {
	tcp, socket *api.Client
	address     string
	stop        context.CancelFunc
	ended       chan error
}

func start(t *testing.T, f *fakeEngine, o Options) started {
	t.Helper()
	dir := socketDir(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := started{address: tcp.Addr().String(), stop: cancel, ended: make(chan error, 1)}
	o.Engine = f
	go func() { s.ended <- New(o).Serve(ctx, tcp, socket) }()
	if s.tcp, err = api.NewClient(api.ClientOptions{Server: "http://" + s.address, Token: token}); err != nil {
		t.Fatal(err)
	}
	if s.socket, err = api.NewClient(api.ClientOptions{Socket: filepath.Join(dir, config.SocketName)}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s started) end(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestClientAndServerUnderstandEachOther(t *testing.T) {
	f := fullFake()
	f.finish("dev", reconciler.Unchanged)
	f.finish("prod", reconciler.Applied)
	s := start(t, f, Options{TokenFile: writeToken(t, token)})
	defer s.end(t)
	ctx := t.Context()
	for name, c := range map[string]*api.Client{"tcp": s.tcp, "socket": s.socket} {
		all, err := c.Environments(ctx)
		if err != nil || len(all.Environments) != 2 {
			t.Errorf("%s: Environments = %+v, %v", name, all, err)
		}
		if one, err := c.Environment(ctx, "prod"); err != nil || one.LastRun.Trigger.Reason != reconciler.ReasonOnCall {
			t.Errorf("%s: Environment = %+v, %v", name, one, err)
		}
		if r, err := c.Drift(ctx, api.DriftQuery{Environment: "prod", Open: true, Since: time.Hour}); err != nil || len(r.Episodes) != 1 {
			t.Errorf("%s: Drift = %+v, %v", name, r, err)
		}
		if r, err := c.Resync(ctx, api.ResyncRequest{Environments: []string{"prod"}, Verify: true}, time.Minute); err != nil || len(r.Runs) != 1 || r.Runs[0].Result != reconciler.Applied {
			t.Errorf("%s: Resync = %+v, %v", name, r, err)
		}
		if r, err := c.Run(ctx, "run-dev", 0); err != nil || r.Result != reconciler.Unchanged {
			t.Errorf("%s: Run = %+v, %v", name, r, err)
		}
		if r, err := c.LastResync(ctx); err != nil || len(r.Runs) != 0 {
			t.Errorf("%s: LastResync = %+v, %v", name, r, err)
		}
		var p api.Problem
		if _, err := c.Environment(ctx, "a/../b"); !errors.As(err, &p) || p.Status != 404 || p.Known == nil {
			t.Errorf("%s: an unknown environment is %v", name, err)
		}
	}
}

func TestShutdownAnswersWhoWaits(t *testing.T) {
	f := newFake("dev")
	s := start(t, f, Options{})
	type answer struct {
		receipts api.Receipts
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		r, err := s.socket.Resync(context.Background(), api.ResyncRequest{}, api.MaxWait)
		answered <- answer{r, err}
	}()
	<-f.waited
	s.end(t)
	if a := <-answered; a.err != nil || a.receipts.Runs[0].Result != reconciler.Pending {
		t.Errorf("who waited got %+v", a)
	}
	var gone api.Unreachable
	if _, err := s.tcp.Environments(context.Background()); !errors.As(err, &gone) {
		t.Errorf("after the end: %v", err)
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	stuck := make(chan struct{})
	began := make(chan struct{})
	metrics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(began); <-stuck })
	s := start(t, newFake(), Options{Metrics: metrics, ShutdownTimeout: 10 * time.Millisecond})
	defer close(stuck)
	go http.Get("http://" + s.address + "/metrics") // it gets no answer, which is the point
	<-began
	s.end(t)
}

func TestClientSaysWhatIsWrongWithAnAddress(t *testing.T) {
	for _, address := range []string{"localhost:8080", "ftp://x", "http://", "unix://relative/path", "http://a:b@host", "://"} {
		if _, err := api.NewClient(api.ClientOptions{Server: address}); err == nil {
			t.Errorf("%s was accepted", address)
		}
	}
}

func TestClientKnowsWhatIsNoDaemon(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go http.Serve(l, http.NotFoundHandler())
	c, err := api.NewClient(api.ClientOptions{Server: "http://" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Environments(t.Context()); err == nil || !strings.Contains(err.Error(), "is no Holdfast daemon") {
		t.Errorf("Environments = %v", err)
	}
}
