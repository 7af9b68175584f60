package gitrepo

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"golang.org/x/crypto/ssh"
)

// sshWire speaks git's protocol with a program on an SSH server. go-git's own
// transport reads the user's ssh_config, cannot be ended while it connects, and
// takes a lost connection for the end of the data.
type sshWire struct {
	opts Options
	addr address
}

func (w *sshWire) close() {}

// open connects, starts the server's upload-pack and reads what it lists.
func (w *sshWire) open(ctx context.Context, creds *credentials) (*listing, error) {
	s, err := w.start(ctx, creds, "git-upload-pack")
	if err != nil {
		return nil, err
	}
	done := s.within(ctx)
	adv, err := s.advertised()
	done()
	if err != nil {
		s.close()
		return nil, err
	}
	seen := offered(func(name string) bool { return adv.Capabilities.Supports(capability.Capability(name)) })
	transport.FilterUnsupportedCapabilities(adv.Capabilities)
	return &listing{adv: adv, offers: seen, session: s}, nil
}

// start opens a connection and runs the one program that is needed on it.
func (w *sshWire) start(ctx context.Context, creds *credentials, name string) (*sshSession, error) {
	client, conn, err := w.connect(ctx, creds)
	if err != nil {
		return nil, err
	}
	s := &sshSession{conn: conn, client: client}
	done := s.within(ctx)
	defer done()
	if err := s.run(name + " " + quoted(w.addr.path)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// quoted makes one word of a shell's of a text: the server hands it to one.
func quoted(text string) string {
	return "'" + strings.NewReplacer(`'`, `'\''`, `!`, `'\!'`).Replace(text) + "'"
}

// sshSession is one run of upload-pack, on a connection of its own.
type sshSession struct {
	conn    net.Conn
	client  *ssh.Client
	session *ssh.Session
	// wait gives how the program ended.
	wait  func() error
	in    io.WriteCloser
	out   *bufio.Reader
	said  excuse
	asked bool
	once  sync.Once
}

func (s *sshSession) run(command string) error {
	var err error
	if s.session, err = s.client.NewSession(); err != nil {
		return err
	}
	s.session.Stderr = &s.said
	s.wait = sync.OnceValue(s.session.Wait)
	if s.in, err = s.session.StdinPipe(); err != nil {
		return err
	}
	out, err := s.session.StdoutPipe()
	if err != nil {
		return err
	}
	s.out = bufio.NewReaderSize(out, 32<<10)
	return s.session.Start(command)
}

// within ends the connection when the context ends first: nothing else ends a
// read or a write on it.
func (s *sshSession) within(ctx context.Context) (done func()) {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	return func() { stop() }
}

func (s *sshSession) advertised() (*packp.AdvRefs, error) {
	adv := packp.NewAdvRefs()
	bounded := &body{src: io.NopCloser(s.out), left: maxListing}
	err := adv.Decode(bounded)
	var told *pktline.ErrorLine
	var unexpected *packp.ErrUnexpectedData
	switch {
	case err == nil && adv.IsEmpty(), errors.Is(err, packp.ErrEmptyAdvRefs):
		return nil, transport.ErrEmptyRemoteRepository
	case err == nil:
		return adv, nil
	case isFailure(err):
		return nil, err
	case errors.As(err, &told):
		return nil, excused(told.Text)
	case errors.Is(err, packp.ErrEmptyInput), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, s.ended()
	case errors.As(err, &unexpected), errors.Is(err, pktline.ErrInvalidPktLen):
		return nil, fail(ErrUnreachable, "the answer is not git's",
			"check that the account may run git-upload-pack, and that its login prints nothing")
	}
	return nil, err
}

// ended explains why the server's program said no more.
func (s *sshSession) ended() error {
	err := s.wait()
	if text := s.said.String(); text != "" {
		return excused(text)
	}
	var missing *ssh.ExitMissingError
	if err == nil || errors.As(err, &missing) {
		return fail(ErrUnreachable, "the server closed the connection", "")
	}
	return fail(ErrUnreachable, "git-upload-pack failed on the server: "+printable(err.Error(), 100), "")
}

// excused tells apart what servers say when they give nothing.
func excused(text string) error {
	lower := strings.ToLower(text)
	for _, sign := range []string{
		"not found", "does not exist", "not appear to be a git repository", "no such", "could not be found", "not exported",
	} {
		if strings.Contains(lower, sign) {
			f := notFound()
			f.text += ": the server says " + quote(text)
			return f
		}
	}
	for _, sign := range []string{"denied", "not allowed", "unauthorized", "forbidden", "no access", "permission", "authentication"} {
		if strings.Contains(lower, sign) {
			return fail(ErrAuth, "the server says "+quote(text), "give the key read access to the repository")
		}
	}
	return fail(ErrUnreachable, "the server says "+quote(text), "")
}

// quote makes what a server says fit for a line.
func quote(text string) string { return `"` + printable(text, 300) + `"` }

func (s *sshSession) again() bool { return false }

// upload sends the request whole, the end of the negotiation included, and reads
// up to the pack.
func (s *sshSession) upload(ctx context.Context, req *packp.UploadPackRequest) (io.ReadCloser, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	s.asked = true
	done := s.within(ctx)
	resp, err := s.exchange(req)
	if err != nil {
		done()
		return nil, err
	}
	return &sshPack{Reader: resp, done: done}, nil
}

func (s *sshSession) exchange(req *packp.UploadPackRequest) (io.Reader, error) {
	w := bufio.NewWriterSize(s.in, 32<<10)
	err := req.UploadRequest.Encode(w)
	if err == nil {
		err = req.UploadHaves.Encode(w, false)
	}
	if err == nil {
		err = pktline.NewEncoder(w).EncodeString("done\n")
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = s.in.Close()
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, s.ended()
		}
		return nil, err
	}
	resp := packp.NewUploadPackResponse(req)
	if err := resp.Decode(io.NopCloser(&sshStream{s})); err != nil {
		return nil, err
	}
	return resp, nil
}

// close ends the connection. Where no pack was asked for the server is told so,
// lest it log a client that went away.
func (s *sshSession) close() {
	s.once.Do(func() {
		giveUp := time.AfterFunc(time.Second, func() { s.conn.Close() })
		defer giveUp.Stop()
		if s.in != nil && !s.asked {
			_, _ = s.in.Write(pktline.FlushPkt) // a courtesy
		}
		s.client.Close()
		_ = s.client.Wait() // how it ended is of no interest
	})
}

// sshPack is the rest of an answer.
type sshPack struct {
	io.Reader
	done func()
}

func (p *sshPack) Close() error {
	p.done()
	return nil
}

// sshStream reads what the program prints. The end of the data is taken for
// such only when the program ended well: a lost connection looks the same.
type sshStream struct {
	s *sshSession
}

func (r *sshStream) Read(p []byte) (int, error) {
	n, err := r.s.out.Read(p)
	if n > 0 || err != io.EOF {
		return n, err
	}
	if exit := r.s.wait(); exit == nil {
		return 0, io.EOF
	}
	return 0, r.s.ended()
}

// excuse keeps the beginning of what a program prints beside its answer.
type excuse struct {
	mu   sync.Mutex
	text []byte
}

func (e *excuse) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	room := maxExcuse - len(e.text)
	e.text = append(e.text, p[:min(len(p), max(room, 0))]...)
	return len(p), nil
}

func (e *excuse) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	lines := strings.FieldsFunc(string(e.text), func(c rune) bool { return c == '\n' || c == '\r' })
	var kept []string
	for _, line := range lines {
		// GitLab frames its messages with empty lines and rules.
		if line = strings.TrimSpace(strings.TrimPrefix(line, "remote:")); strings.Trim(line, "=- ") != "" {
			kept = append(kept, line)
		}
	}
	return strings.TrimSpace(strings.Join(kept, " "))
}
