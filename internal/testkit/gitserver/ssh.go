package gitserver

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Login is one key that a client was let in with.
type Login struct {
	User string
	// Key is the fingerprint.
	Key string
}

// SSHServer serves the repositories of a Server over SSH, by the git binary's
// own upload-pack.
type SSHServer struct {
	// Addr is where it listens, host:port.
	Addr string

	server   *Server
	listener net.Listener
	running  sync.WaitGroup

	mu         sync.Mutex
	hostKeys   []ssh.Signer
	authorized map[string]bool
	conns      map[net.Conn]bool
	closed     bool
	fault      SSHFault
	logins     []Login
	commands   []string
	connected  int
}

// StartSSH serves the repositories of s on a port of their own until the test
// ends. It lets nobody in before Authorize.
func StartSSH(t TB, s *Server) *SSHServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start ssh server: %v", err)
	}
	srv := &SSHServer{
		Addr: l.Addr().String(), server: s, listener: l,
		authorized: map[string]bool{}, conns: map[net.Conn]bool{},
	}
	srv.SetHostKeys(NewSigner(t))
	srv.running.Go(srv.accept)
	t.Cleanup(srv.Close)
	return srv
}

// URL is where a repository is served.
func (s *SSHServer) URL(r *Repo) string {
	return "ssh://git@" + s.Addr + "/" + s.Path(r)
}

// Path is that of a repository on this server, as in git@host:path.
func (s *SSHServer) Path(r *Repo) string {
	return strings.TrimPrefix(filepath.ToSlash(strings.TrimPrefix(r.Dir, s.server.dir)), "/")
}

// NewSigner makes a key.
func NewSigner(t TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	return signer
}

// WriteKey makes a key, writes it in the form of OpenSSH to a file, encrypted
// where there is a passphrase, and gives its public part.
func WriteKey(t TB, path, passphrase string) ssh.PublicKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	var block *pem.Block
	if err == nil && passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else if err == nil {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err == nil {
		err = os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
	}
	var signer ssh.Signer
	if err == nil {
		signer, err = ssh.NewSignerFromKey(private)
	}
	if err != nil {
		t.Fatalf("write a key: %v", err)
	}
	return signer.PublicKey()
}

// SetHostKeys replaces the keys by which new connections know the server.
func (s *SSHServer) SetHostKeys(keys ...ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hostKeys = keys
}

// KnownHosts writes a known_hosts file with the server's keys of now, and gives
// its path.
func (s *SSHServer) KnownHosts(t TB) string {
	t.Helper()
	s.mu.Lock()
	var b strings.Builder
	for _, key := range s.hostKeys {
		fmt.Fprintln(&b, knownhosts.Line([]string{s.Addr}, key.PublicKey()))
	}
	s.mu.Unlock()
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatalf("write known hosts: %v", err)
	}
	return path
}

// Authorize lets a key in.
func (s *SSHServer) Authorize(key ssh.PublicKey) { s.allow(key, true) }

// Revoke lets a key in no more.
func (s *SSHServer) Revoke(key ssh.PublicKey) { s.allow(key, false) }

func (s *SSHServer) allow(key ssh.PublicKey, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authorized[string(key.Marshal())] = in
}

// Logins are those who were let in since the start.
func (s *SSHServer) Logins() []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Login(nil), s.logins...)
}

// Commands are those that clients asked to be run since the start.
func (s *SSHServer) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

// Connections counts those that were accepted since the start.
func (s *SSHServer) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connected
}

// Close stops serving, cuts what is under way and waits for its end.
func (s *SSHServer) Close() {
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.listener.Close()
	s.running.Wait()
}

func (s *SSHServer) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.closed {
			conn.Close()
			s.mu.Unlock()
			return
		}
		s.conns[conn] = true
		s.connected++
		s.running.Go(func() { s.serve(conn) })
		s.mu.Unlock()
	}
}

func (s *SSHServer) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	config := &ssh.ServerConfig{PublicKeyCallback: s.check}
	s.mu.Lock()
	fault := s.fault
	for _, key := range s.hostKeys {
		config.AddHostKey(key)
	}
	s.mu.Unlock()
	if fault.HangOnConnect {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	c, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return // the client says why
	}
	defer c.Close()
	s.running.Go(func() { ssh.DiscardRequests(requests) })
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		ch, reqs, err := offered.Accept()
		if err != nil {
			return
		}
		s.running.Go(func() { s.session(ch, reqs, fault) })
	}
}

func (s *SSHServer) check(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.authorized[string(key.Marshal())] {
		return nil, errors.New("not authorized")
	}
	s.logins = append(s.logins, Login{User: meta.User(), Key: ssh.FingerprintSHA256(key)})
	return nil, nil
}

func (s *SSHServer) session(ch ssh.Channel, requests <-chan *ssh.Request, fault SSHFault) {
	defer ch.Close()
	for req := range requests {
		var exec struct{ Command string }
		if req.Type != "exec" || ssh.Unmarshal(req.Payload, &exec) != nil {
			_ = req.Reply(false, nil)
			continue
		}
		s.mu.Lock()
		s.commands = append(s.commands, exec.Command)
		s.mu.Unlock()
		_ = req.Reply(true, nil)
		// Requests that come later are let pass, so that the connection goes on.
		gone := make(chan struct{})
		s.running.Go(func() {
			ssh.DiscardRequests(requests)
			close(gone)
		})
		code := s.run(exec.Command, ch, fault, gone)
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
		return
	}
}

// run answers one command, which can only be an upload-pack or a receive-pack. Gone is closed when
// the client has left.
func (s *SSHServer) run(command string, ch ssh.Channel, fault SSHFault, gone <-chan struct{}) uint32 {
	if fault.Say != "" {
		fmt.Fprintln(ch.Stderr(), fault.Say)
		return 1
	}
	if fault.Print != "" {
		fmt.Fprintln(ch, fault.Print)
	}
	verb, quoted, ok := strings.Cut(command, " '")
	ok = ok && (verb == "git-upload-pack" || verb == "git-receive-pack")
	name, closed := strings.CutSuffix(quoted, "'")
	if !ok || !closed || strings.Contains(name, "..") {
		fmt.Fprintf(ch.Stderr(), "%s: not allowed\n", command)
		return 126
	}
	env, err := environment(s.server.dir)
	if err != nil {
		fmt.Fprintln(ch.Stderr(), err)
		return 1
	}
	git := exec.Command("git", strings.TrimPrefix(verb, "git-"), filepath.Join(s.server.dir, strings.NewReplacer(`'\''`, `'`, `'\!'`, `!`).Replace(name)))
	git.Env = append(os.Environ(), env...)
	git.Stderr = ch.Stderr()
	git.Stdout = fault.wrap(ch, gone)
	in, err := git.StdinPipe()
	if err == nil {
		err = git.Start()
	}
	if err != nil {
		fmt.Fprintln(ch.Stderr(), err)
		return 1
	}
	s.running.Go(func() {
		_, _ = io.Copy(in, ch)
		in.Close()
	})
	var exit *exec.ExitError
	if err := git.Wait(); errors.As(err, &exit) {
		return uint32(max(exit.ExitCode(), 1))
	} else if err != nil {
		return 1
	}
	return 0
}
