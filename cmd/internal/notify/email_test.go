package notify

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

// mailServer is a server on loopback that offers STARTTLS, asks for a password
// and takes letters. It answers RCPT as it is told.
type mailServer struct {
	net.Listener
	tls     *tls.Config
	ca      string
	rcpt    string
	letters chan string
	said    chan []string
}

func newMailServer(t *testing.T) *mailServer {
	t.Helper()
	helper := httptest.NewTLSServer(nil) // for its certificate
	helper.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: helper.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{
		Listener: l, tls: &tls.Config{Certificates: helper.TLS.Certificates}, ca: ca, rcpt: "250 ok",
		letters: make(chan string, 10), said: make(chan []string, 10),
	}
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.serve(conn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return s
}

func (s *mailServer) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	var said []string
	defer func() { s.said <- said }()
	in := bufio.NewReader(conn)
	secure := false
	answer := func(text string) { fmt.Fprintf(conn, "%s\r\n", text) }
	answer("220 mail")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		said = append(said, fmt.Sprintf("%v %s", secure, line))
		switch verb, _, _ := strings.Cut(line, " "); verb {
		case "EHLO":
			if secure {
				answer("250-mail\r\n250 AUTH PLAIN")
			} else {
				answer("250-mail\r\n250 STARTTLS")
			}
		case "STARTTLS":
			answer("220 go on")
			conn = tls.Server(conn, s.tls)
			in, secure = bufio.NewReader(conn), true
		case "AUTH":
			answer("235 welcome")
		case "RCPT":
			answer(s.rcpt)
		case "DATA":
			answer("354 go on")
			var letter strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				letter.WriteString(line)
			}
			s.letters <- letter.String()
			answer("250 taken")
		case "QUIT":
			answer("221 bye")
			return
		default:
			answer("250 ok")
		}
	}
}

func (s *mailServer) receiver(t *testing.T, ca string) *receiver {
	t.Helper()
	r, err := newReceiver(config.Receiver{
		Name: "mail", Kind: "email", Host: s.Addr().String(), From: "Holdfast <holdfast@example.org>", To: []string{"ops@example.org", "Ann <ann@example.org>"},
		Username: "robot", SecretFile: secretFile(t, planted), CAFile: ca,
	}, config.Notifications{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestALetterGoesOverTLSOnly(t *testing.T) {
	s := newMailServer(t)
	m := example(New)
	m.Notices[0].Title = "it failed: größer\r\nBcc: all@example.org"
	if err := s.receiver(t, s.ca).send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	letter, said := <-s.letters, strings.Join(<-s.said, "\n")
	head, body, _ := strings.Cut(letter, "\r\n\r\n")
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil || !strings.Contains(string(text), "größer") || !strings.Contains(string(text), "deploy.yaml:3:5") {
		t.Errorf("%v: %s", err, text)
	}
	if strings.Contains(head, "\r\nBcc") || !strings.Contains(head, "Message-ID: <msg-1@holdfast>") {
		t.Errorf("head %s", head)
	}
	auth := "true AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00robot\x00"+planted))
	for _, want := range []string{auth, "true MAIL FROM:<holdfast@example.org>", "true RCPT TO:<ops@example.org>", "true RCPT TO:<ann@example.org>"} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s, in\n%s", want, said)
		}
	}
}

func TestALetterIsNotSentToSomebodyElse(t *testing.T) {
	s := newMailServer(t)
	err := s.receiver(t, "").send(t.Context(), example(New))
	if err == nil || strings.Contains(err.Error(), planted) || strings.Contains(strings.Join(<-s.said, "\n"), "AUTH") {
		t.Errorf("a server of unknown certificate: %v", err)
	}
}

func TestARefusedLetterIsFinalAndABusyServerIsNot(t *testing.T) {
	s := newMailServer(t)
	for answer, final := range map[string]bool{"550 no such user": true, "450 busy": false} {
		s.rcpt = answer
		err := s.receiver(t, s.ca).send(t.Context(), example(New))
		<-s.said
		var e sendError
		if !errors.As(err, &e) || e.final != final {
			t.Errorf("%s: %v, final %v", answer, err, e.final)
		}
	}
}
