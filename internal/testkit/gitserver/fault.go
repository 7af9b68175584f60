package gitserver

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// Fault answers a request instead of git, which it may still call on.
type Fault func(w http.ResponseWriter, r *http.Request, git http.Handler)

// SetFault makes the server misbehave; nil makes it behave again.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Status answers everything with this code.
func Status(code int) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, http.StatusText(code), code)
	}
}

// HTML answers with a page, as a login form or a captive portal does.
func HTML() Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<html><body>please log in</body></html>"))
	}
}

// Hang answers nothing until the client goes away.
func Hang() Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does net/http see the client leave
		<-r.Context().Done()
	}
}

// OnPack lets listings through and applies the fault to downloads only.
func OnPack(f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		if strings.HasSuffix(r.URL.Path, "git-upload-pack") {
			f(w, r, git)
			return
		}
		git.ServeHTTP(w, r)
	}
}

// CutAfter closes the connection once that many bytes of the body were sent.
func CutAfter(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		git.ServeHTTP(&cutter{ResponseWriter: w, left: n}, r)
	}
}

// HangAfter stops sending once that many bytes of the body were sent, until the
// client goes away.
func HangAfter(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		git.ServeHTTP(&cutter{ResponseWriter: w, left: n, hang: r}, r)
	}
}

type cutter struct {
	http.ResponseWriter
	left int
	hang *http.Request
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	if c.hang != nil {
		<-c.hang.Context().Done()
	}
	panic(http.ErrAbortHandler) // net/http's way to cut the connection
}

// Trickle sends the body in pieces of so many bytes, with a pause after each.
func Trickle(piece int, pause time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		git.ServeHTTP(&trickler{ResponseWriter: w, request: r, piece: piece, pause: pause}, r)
	}
}

type trickler struct {
	http.ResponseWriter
	request *http.Request
	piece   int
	pause   time.Duration
}

func (s *trickler) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n, err := s.ResponseWriter.Write(p[:min(s.piece, len(p))])
		if written += n; err != nil {
			return written, err
		}
		p = p[n:]
		_ = http.NewResponseController(s.ResponseWriter).Flush() // the next write tells of a broken connection
		select {
		case <-time.After(s.pause):
		case <-s.request.Context().Done():
			return written, s.request.Context().Err()
		}
	}
	return written, nil
}
