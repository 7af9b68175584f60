package gitrepo_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// sshFixture is a repository on an SSH server, with a key that is let in.
type sshFixture struct {
	*fixture
	ssh *gitserver.SSHServer
	// key is the path of the key file, known that of the known hosts.
	key, known string
	public     ssh.PublicKey
}

func newSSHFixture(t *testing.T) *sshFixture {
	t.Helper()
	f := &sshFixture{fixture: newFixture(t)}
	f.ssh = gitserver.StartSSH(t, f.server)
	f.key = filepath.Join(t.TempDir(), "id_ed25519")
	f.public = gitserver.WriteKey(t, f.key, "")
	f.ssh.Authorize(f.public)
	f.known = f.ssh.KnownHosts(t)
	return f
}

func (f *sshFixture) open(t *testing.T, change ...func(*gitrepo.Options)) *gitrepo.Repo {
	t.Helper()
	return f.fixture.open(t, append([]func(*gitrepo.Options){f.overSSH}, change...)...)
}

func (f *sshFixture) overSSH(o *gitrepo.Options) {
	o.URL = f.ssh.URL(f.origin)
	o.SSH = gitrepo.SSH{KeyFiles: []string{f.key}, KnownHostsFile: f.known}
}

// wantKind checks the error of a listing and of a fetch.
func wantKind(t *testing.T, r *gitrepo.Repo, kind error, parts ...string) {
	t.Helper()
	_, headErr := r.Head(t.Context())
	_, fetchErr := r.Fetch(t.Context())
	for _, err := range []error{headErr, fetchErr} {
		if !errors.Is(err, kind) {
			t.Fatalf("error: %v, want one of the kind %q", err, kind)
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error: %v, want %q in it", err, part)
			}
		}
	}
}

func TestLawsOverSSH(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness {
		f := newSSHFixture(t)
		return sourcetest.Harness{
			Write:   func(t *testing.T, files sourcetest.Files) { f.commit(t, files) },
			Open:    func(t *testing.T) sourcetest.Source { return f.open(t) },
			Restart: func(s sourcetest.Source) { s.(*gitrepo.Repo).Close() },
		}
	})
}

// One connection serves for the listing and the download, and no change costs
// but one.
func TestSSHFollowsARepository(t *testing.T) {
	f := newSSHFixture(t)
	first := f.commit(t, sourcetest.Files{"a": "1", "big": strings.Repeat("line\n", 100_000)})
	r := f.open(t)
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
	if n := f.ssh.Connections(); n != 1 {
		t.Errorf("the first fetch made %d connections", n)
	}
	sourcetest.Fetch(t, r)
	f.commit(t, sourcetest.Files{"a": "2"})
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "2")
	f.origin.ForcePush(t, gitserver.Main, first)
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
	pinned := f.open(t, ref(first), func(o *gitrepo.Options) { o.Dir = t.TempDir() })
	sourcetest.WantFile(t, sourcetest.Fetch(t, pinned), "a", "1")
	for _, command := range f.ssh.Commands() {
		if command != "git-upload-pack '/web.git'" {
			t.Errorf("the server was asked for %q", command)
		}
	}
	for _, login := range f.ssh.Logins() {
		if login.User != "git" {
			t.Errorf("logged in as %q", login.User)
		}
	}
}

func TestSSHAddresses(t *testing.T) {
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	odd := f.server.Repo(t, "it's odd! $(x)")
	odd.Commit(t, sourcetest.Files{"a": "odd"})
	for _, url := range []string{
		"ssh://" + f.ssh.Addr + "/web.git",
		"ssh://ann@" + f.ssh.Addr + "/web.git",
		"ssh://git@" + f.ssh.Addr + "/it's%20odd!%20$(x).git",
	} {
		r := f.open(t, func(o *gitrepo.Options) { o.URL, o.Dir = url, t.TempDir() })
		want := "1"
		if strings.Contains(url, "odd") {
			want = "odd"
		}
		sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", want)
	}
	users := map[string]bool{}
	for _, login := range f.ssh.Logins() {
		users[login.User] = true
	}
	if !users["git"] || !users["ann"] {
		t.Errorf("logged in as %v", users)
	}
}

func TestSSHKeys(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	dir := t.TempDir()
	locked, stranger, broken := filepath.Join(dir, "locked"), filepath.Join(dir, "stranger"), filepath.Join(dir, "broken")
	f.ssh.Authorize(gitserver.WriteKey(t, locked, "hunter22"))
	gitserver.WriteKey(t, stranger, "")
	right, wrong := filepath.Join(dir, "right"), filepath.Join(dir, "wrong")
	for path, text := range map[string]string{right: "hunter22\n", wrong: "hunter23\n", broken: "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter22\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		keys gitrepo.SSH
		want []string
	}{
		"encrypted, with its passphrase":   {gitrepo.SSH{KeyFiles: []string{locked}, PassphraseFile: right}, nil},
		"the second of two":                {gitrepo.SSH{KeyFiles: []string{stranger, f.key}}, nil},
		"encrypted, without a passphrase":  {gitrepo.SSH{KeyFiles: []string{locked}}, []string{locked, "is encrypted"}},
		"encrypted, with another's":        {gitrepo.SSH{KeyFiles: []string{locked}, PassphraseFile: wrong}, []string{locked, "passphrase", "is wrong"}},
		"not known to the server":          {gitrepo.SSH{KeyFiles: []string{stranger}}, []string{`refused the SSH key for user "git"`, "deploy keys"}},
		"no key":                           {gitrepo.SSH{KeyFiles: []string{broken}}, []string{broken, "private key"}},
		"no file":                          {gitrepo.SSH{KeyFiles: []string{filepath.Join(dir, "none")}}, []string{"no such file"}},
		"an agent that is not there":       {gitrepo.SSH{Agent: filepath.Join(dir, "socket")}, []string{"ask the SSH agent", "socket"}},
		"a passphrase that is not there":   {gitrepo.SSH{KeyFiles: []string{locked}, PassphraseFile: filepath.Join(dir, "none")}, []string{"read the passphrase"}},
		"the public key instead of a real": {gitrepo.SSH{KeyFiles: []string{f.known}}, []string{"private key"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.open(t, func(o *gitrepo.Options) {
				o.Dir, o.SSH = t.TempDir(), tc.keys
				o.SSH.KnownHostsFile = f.known
			})
			if tc.want == nil {
				sourcetest.Fetch(t, r)
				return
			}
			wantKind(t, r, gitrepo.ErrAuth, tc.want...)
			if _, err := r.Head(t.Context()); strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the passphrase is shown: %v", err)
			}
		})
	}
}

func TestSSHKeyRotates(t *testing.T) {
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	sourcetest.Fetch(t, r)
	f.ssh.Revoke(f.public)
	wantKind(t, r, gitrepo.ErrAuth, "refused the SSH key")
	f.ssh.Authorize(gitserver.WriteKey(t, f.key, ""))
	sourcetest.Fetch(t, r)
}

// serveAgent runs an SSH agent with one key, at a socket.
func serveAgent(t *testing.T, key any) (socket string) {
	t.Helper()
	ring := agent.NewKeyring()
	if key != nil {
		if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agent") // the paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				_ = agent.ServeAgent(ring, conn) // ends with the client
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
		os.RemoveAll(dir)
	})
	return socket
}

func TestSSHAgent(t *testing.T) {
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f.ssh.Authorize(signer.PublicKey())
	socket := serveAgent(t, key)
	known := gitrepo.SSH{KnownHostsFile: f.known}

	named := known
	named.Agent = socket
	sourcetest.Fetch(t, f.open(t, func(o *gitrepo.Options) { o.SSH, o.Dir = named, t.TempDir() }))

	t.Setenv("SSH_AUTH_SOCK", socket)
	t.Setenv("HOME", t.TempDir())
	sourcetest.Fetch(t, f.open(t, func(o *gitrepo.Options) { o.SSH, o.Dir = known, t.TempDir() }))
	for _, login := range f.ssh.Logins() {
		if login.Key != ssh.FingerprintSHA256(signer.PublicKey()) {
			t.Errorf("logged in with %s", login.Key)
		}
	}

	named.Agent = serveAgent(t, nil)
	r := f.open(t, func(o *gitrepo.Options) { o.SSH, o.Dir = named, t.TempDir() })
	wantKind(t, r, gitrepo.ErrAuth, "it holds no key")
	t.Setenv("SSH_AUTH_SOCK", "")
	r = f.open(t, func(o *gitrepo.Options) { o.SSH, o.Dir = known, t.TempDir() })
	wantKind(t, r, gitrepo.ErrAuth, "no SSH key to use")
}

// Without any settings, what the ssh program would use is used.
func TestSSHUsualFiles(t *testing.T) {
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id_ed25519", "known_hosts"} {
		from := map[string]string{"id_ed25519": f.key, "known_hosts": f.known}[name]
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(home, ".ssh", name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gitserver.WriteKey(t, filepath.Join(home, ".ssh", "id_rsa"), "locked")
	sourcetest.Fetch(t, f.open(t, func(o *gitrepo.Options) { o.SSH = gitrepo.SSH{} }))
}

func TestSSHHostKeys(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	real := gitserver.NewSigner(t)
	f.ssh.SetHostKeys(real)
	line := knownhosts.Line([]string{f.ssh.Addr}, real.PublicKey())
	print := ssh.FingerprintSHA256(real.PublicKey())
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ssh.NewSignerFromKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	otherLine := knownhosts.Line([]string{f.ssh.Addr}, other.PublicKey())
	oldPrint := ssh.FingerprintSHA256(f.hostKey(t))
	for name, tc := range map[string]struct {
		file string
		want []string
	}{
		"known":              {write("known", line+"\n"), nil},
		"known by a hash":    {write("hash", knownhosts.HashHostname(knownhosts.Normalize(f.ssh.Addr))+line[strings.Index(line, " "):]+"\n"), nil},
		"unknown":            {write("empty", "# nobody\n"), []string{print, "is not known", "add to " + dir + "/empty the line: " + line}},
		"no file":            {filepath.Join(dir, "none"), []string{print, "add to " + dir + "/none the line: " + line}},
		"changed":            {f.known, []string{print, oldPrint, f.known + ":1", "somebody may be in between", "in place of line 1 the line: " + line}},
		"of another kind":    {write("kind", otherLine+"\n"), []string{print, ssh.FingerprintSHA256(other.PublicKey()), line}},
		"revoked":            {write("revoked", "@revoked * "+line[strings.Index(line, " ")+1:]+"\n"), []string{print, "revoked at " + dir + "/revoked:1"}},
		"a file that is not": {write("broken", "what is this\n"), []string{"read the known hosts", dir + "/broken:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.open(t, func(o *gitrepo.Options) { o.Dir, o.SSH.KnownHostsFile = t.TempDir(), tc.file })
			if tc.want == nil {
				sourcetest.Fetch(t, r)
				return
			}
			before := len(f.ssh.Logins())
			wantKind(t, r, gitrepo.ErrHostKey, tc.want...)
			if len(f.ssh.Logins()) != before {
				t.Error("a key was shown to a server that is not known")
			}
		})
	}
	// Once the line is there the source is back, without a restart.
	empty := filepath.Join(dir, "later")
	r := f.open(t, func(o *gitrepo.Options) { o.Dir, o.SSH.KnownHostsFile = t.TempDir(), empty })
	wantKind(t, r, gitrepo.ErrHostKey)
	write("later", line+"\n")
	sourcetest.Fetch(t, r)
	// Of several keys of the server the known one is asked for.
	f.ssh.SetHostKeys(real, other)
	write("later", otherLine+"\n")
	sourcetest.Fetch(t, r)
}

// hostKey is the server's first key, from its known hosts.
func (f *sshFixture) hostKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	text, err := os.ReadFile(f.known)
	if err != nil {
		t.Fatal(err)
	}
	_, _, key, _, _, err := ssh.ParseKnownHosts(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// incompressible is text that cannot be compressed, the same each time.
func incompressible(n int) string {
	b := make([]byte, n)
	_, _ = mathrand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return string(b)
}

func TestSSHServerMisbehaves(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1", "big": incompressible(200_000)})
	f.server.Repo(t, "empty")
	for name, tc := range map[string]struct {
		fault gitserver.SSHFault
		kind  error
		want  string
	}{
		"hangs on connect":       {gitserver.SSHFault{HangOnConnect: true}, gitrepo.ErrUnreachable, "no answer within"},
		"hangs in the listing":   {gitserver.SSHFault{HangAfter: 30}, gitrepo.ErrUnreachable, "no answer within"},
		"hangs in the pack":      {gitserver.SSHFault{HangAfter: 70_000}, gitrepo.ErrUnreachable, "no answer within"},
		"is cut in the listing":  {gitserver.SSHFault{CutAfter: 30}, gitrepo.ErrUnreachable, "closed the connection"},
		"is cut in the pack":     {gitserver.SSHFault{CutAfter: 70_000}, gitrepo.ErrUnreachable, "closed the connection"},
		"says not found":         {gitserver.SSHFault{Say: "ERROR: Repository not found."}, gitrepo.ErrNotFound, "Repository not found."},
		"says denied":            {gitserver.SSHFault{Say: "remote: \nremote: ====\nremote: Access denied\nremote: ===="}, gitrepo.ErrAuth, `"Access denied"`},
		"says something":         {gitserver.SSHFault{Say: "down for repair\x1b[1m"}, gitrepo.ErrUnreachable, `"down for repair [1m"`},
		"prints a login message": {gitserver.SSHFault{Print: "Welcome to the machine"}, gitrepo.ErrUnreachable, "not git's"},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.open(t, func(o *gitrepo.Options) {
				o.Dir = t.TempDir()
				if tc.fault.HangOnConnect || tc.fault.HangAfter > 0 {
					o.Timeout = 400 * time.Millisecond
				}
			})
			f.ssh.SetFault(tc.fault)
			defer f.ssh.SetFault(gitserver.SSHFault{})
			_, err := r.Fetch(t.Context())
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("fetch: %v", err)
			}
			f.ssh.SetFault(gitserver.SSHFault{})
			slow := f.open(t, func(o *gitrepo.Options) { o.Dir = t.TempDir() })
			sourcetest.WantFile(t, sourcetest.Fetch(t, slow), "a", "1")
		})
	}
	for name, kind := range map[string]error{"none": gitrepo.ErrNotFound, "empty": gitrepo.ErrEmpty} {
		r := f.open(t, func(o *gitrepo.Options) {
			o.Dir, o.URL = t.TempDir(), "ssh://git@"+f.ssh.Addr+"/"+name+".git"
		})
		wantKind(t, r, kind, "127.0.0.1")
	}
}

func TestSSHEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	f.ssh.SetFault(gitserver.SSHFault{HangOnConnect: true})
	r := f.open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Fetch(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("fetch: %v", err)
	}
}

// A server may show a certificate of an authority that is known.
func TestSSHHostCertificate(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	authority, host := gitserver.NewSigner(t), gitserver.NewSigner(t)
	certify := func(principal string) {
		cert := &ssh.Certificate{
			Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{principal},
			ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
		}
		if err := cert.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewCertSigner(cert, host)
		if err != nil {
			t.Fatal(err)
		}
		f.ssh.SetHostKeys(signer)
	}
	write(t, f.known, "@cert-authority "+knownhosts.Line([]string{f.ssh.Addr}, authority.PublicKey())+"\n")
	r := f.open(t)
	certify("127.0.0.1")
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
	certify("git.example.org")
	wantKind(t, r, gitrepo.ErrHostKey, "is refused", "127.0.0.1")
}

// Neither an agent nor a proxy holds a fetch up for longer than its timeout.
func TestSSHThroughWhatHangs(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	f.ssh.SetFault(gitserver.SSHFault{HangOnConnect: true}) // in the part of a proxy, too
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // connections wait in its queue
	for name, change := range map[string]func(*gitrepo.Options){
		"agent":      func(o *gitrepo.Options) { o.SSH.Agent = socket },
		"http proxy": func(o *gitrepo.Options) { o.Proxy.URL = "http://" + f.ssh.Addr },
		"tls proxy":  func(o *gitrepo.Options) { o.Proxy.URL = "https://" + f.ssh.Addr },
		"socks":      func(o *gitrepo.Options) { o.Proxy.URL = "socks5://" + f.ssh.Addr },
	} {
		t.Run(name, func(t *testing.T) {
			r := f.open(t, func(o *gitrepo.Options) { o.Timeout = 300 * time.Millisecond }, change)
			wantKind(t, r, gitrepo.ErrUnreachable, "no answer within 300ms")
		})
	}
}
