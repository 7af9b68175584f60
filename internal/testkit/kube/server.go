package kube

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube/sandbox"
)

// Server is a control plane that one test has for itself, to stop, kill, restart
// or freeze. Its address, credentials and objects survive a restart.
type Server struct {
	t          testing.TB
	binary     string
	dir        string
	kubeconfig string
	args       []string
	process    *sandbox.Process
}

// Own starts a private server, which ends with the test. The arguments are
// further arguments of the sandbox program, such as "--fail-image", "bad". It
// costs about four seconds and 300 MB: share one where you can.
func Own(t testing.TB, args ...string) *Server {
	t.Helper()
	skipIfShort(t)
	binary, err := sandbox.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &Server{t: t, binary: binary, dir: dir, kubeconfig: filepath.Join(dir, "kubeconfig"), args: args}
	t.Cleanup(func() {
		if s.process != nil {
			s.process.Kill()
		}
	})
	s.Start()
	return s
}

// Kubeconfig returns the path of the server's kubeconfig.
func (s *Server) Kubeconfig() string { return s.kubeconfig }

// Config returns a client configuration for the server, without a rate limit. It
// stays valid across restarts.
func (s *Server) Config() *rest.Config {
	s.t.Helper()
	return load(s.t, s.kubeconfig)
}

// Start starts the server again after Stop or Kill and returns when it is ready.
func (s *Server) Start() {
	s.t.Helper()
	if s.process != nil {
		s.t.Fatal("start the test's server: it is running")
	}
	p, err := sandbox.Start(s.t.Context(), s.binary, sandbox.Options{Dir: s.dir, Args: s.args})
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = p
}

// Stop ends the server in an orderly way.
func (s *Server) Stop() {
	s.t.Helper()
	p := s.running()
	s.process = nil
	if err := p.Stop(); err != nil {
		s.t.Fatal(err)
	}
}

// Kill ends the server as a power cut would.
func (s *Server) Kill() {
	s.t.Helper()
	s.running().Kill()
	s.process = nil
}

// Freeze makes the server hang: connections are accepted and nothing is
// answered, until Thaw.
func (s *Server) Freeze() {
	s.t.Helper()
	if err := s.running().Freeze(); err != nil {
		s.t.Fatal(err)
	}
}

// Thaw ends Freeze.
func (s *Server) Thaw() {
	s.t.Helper()
	if err := s.running().Thaw(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) running() *sandbox.Process {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatal("the test's server is not running")
	}
	return s.process
}
