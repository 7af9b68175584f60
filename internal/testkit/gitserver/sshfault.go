package gitserver

import (
	"errors"
	"io"

	"golang.org/x/crypto/ssh"
)

// SSHFault says how an SSHServer misbehaves; the zero value is good behaviour.
type SSHFault struct {
	// HangOnConnect accepts connections and says nothing.
	HangOnConnect bool
	// Say is printed as an error, instead of an answer.
	Say string
	// Print is printed before the answer, as a login message is.
	Print string
	// HangAfter stops the answer after that many bytes, CutAfter ends the
	// connection there.
	HangAfter, CutAfter int
}

// SetFault makes new connections misbehave.
func (s *SSHServer) SetFault(f SSHFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (f SSHFault) wrap(ch ssh.Channel, gone <-chan struct{}) io.Writer {
	switch {
	case f.HangAfter > 0:
		return &sshCutter{ch: ch, left: f.HangAfter, hang: gone}
	case f.CutAfter > 0:
		return &sshCutter{ch: ch, left: f.CutAfter}
	}
	return ch
}

type sshCutter struct {
	ch   ssh.Channel
	left int
	hang <-chan struct{}
}

var errCut = errors.New("cut")

func (c *sshCutter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ch.Write(p)
	}
	if c.left > 0 {
		_, _ = c.ch.Write(p[:c.left])
	}
	c.left = 0
	if c.hang != nil {
		<-c.hang
	}
	c.ch.Close()
	return 0, errCut
}
