package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"
)

// mail sends over SMTP, with TLS from the beginning on port 465 and STARTTLS
// elsewhere. Only a server on loopback may do without.
func (r *receiver) mail(ctx context.Context, m Message, text, password string) error {
	letter, err := r.letter(m, text)
	if err != nil {
		return sendError{why: err.Error(), final: true}
	}
	host, port, err := net.SplitHostPort(r.config.Host)
	if err != nil {
		return sendError{why: "its host is not host:port"}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.config.Host)
	if err != nil {
		return sendError{why: "the mail server cannot be reached: " + err.Error()}
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return sendError{why: "the mail server cannot be reached: " + err.Error()}
		}
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	settings := &tls.Config{ServerName: host, RootCAs: r.roots, MinVersion: tls.VersionTLS12}
	if port == "465" {
		conn = tls.Client(conn, settings)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return mailError(err)
	}
	if err := r.talk(c, settings, port, password, letter); err != nil {
		return mailError(err)
	}
	// It was taken already.
	_ = c.Quit()
	return nil
}

func (r *receiver) talk(c *smtp.Client, settings *tls.Config, port, password string, letter []byte) error {
	host := settings.ServerName
	if ok, _ := c.Extension("STARTTLS"); ok && port != "465" {
		if err := c.StartTLS(settings); err != nil {
			return err
		}
	} else if ip := net.ParseIP(host); port != "465" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("the mail server offers no STARTTLS, and nothing is sent in the clear")
	}
	if r.config.Username != "" {
		if err := c.Auth(smtp.PlainAuth("", r.config.Username, password, host)); err != nil {
			return err
		}
	}
	from, err := mail.ParseAddress(r.config.From)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if err := c.Mail(from.Address); err != nil {
		return err
	}
	for _, to := range r.config.To {
		a, err := mail.ParseAddress(to)
		if err != nil {
			return fmt.Errorf("to: %w", err)
		}
		if err := c.Rcpt(a.Address); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(letter); err != nil {
		return err
	}
	return w.Close()
}

// mailError tells what a server refuses for good from what it may take later.
func mailError(err error) error {
	var e *textproto.Error
	if errors.As(err, &e) {
		// 535 is a password, which can be put right; others of 5xx are the letter.
		return sendError{why: "the mail server answered " + e.Error(), status: e.Code, final: e.Code >= 550}
	}
	return sendError{why: "mail: " + err.Error()}
}

// letter is RFC 5322.
func (r *receiver) letter(m Message, text string) ([]byte, error) {
	title := strings.Map(func(c rune) rune {
		if c < ' ' {
			return ' '
		}
		return c
	}, cut(m.Title(), 200))
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", r.config.From}, {"To", strings.Join(r.config.To, ", ")}, {"Subject", mime.QEncoding.Encode("utf-8", title)},
		{"Date", m.At.UTC().Format(time.RFC1123Z)}, {"Message-ID", "<" + m.ID + "@holdfast>"}, {"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		if strings.ContainsAny(h[1], "\r\n") {
			return nil, fmt.Errorf("the header %s would hold a line break", h[0])
		}
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		return nil, err
	}
	return b.Bytes(), w.Close()
}
