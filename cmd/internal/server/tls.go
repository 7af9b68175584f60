package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// TLS names the files of the server's certificate.
type TLS struct {
	CertFile, KeyFile string
	// ClientCAFile, when not empty, holds who signs the certificates that clients
	// need.
	ClientCAFile string
}

// stamp tells whether a file is another: Kubernetes and certbot swap links.
type stamp struct {
	size int64
	time time.Time
}

// certificates are the server's TLS configuration, loaded again when its files
// change.
type certificates struct {
	files TLS
	log   zerolog.Logger

	mu     sync.Mutex
	stamps [3]stamp
	now    *tls.Config
}

// NewTLS loads the files once, and returns a configuration that follows them. A
// bad new file is logged, and the old certificate stays in force.
func NewTLS(files TLS, log zerolog.Logger) (*tls.Config, error) {
	c := &certificates{files: files, log: log}
	var err error
	if c.stamps, err = c.look(); err == nil {
		c.now, err = c.load()
	}
	if err != nil {
		return nil, fmt.Errorf("server.tls: %w", err)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(), nil },
	}, nil
}

// current is the newest configuration that could be loaded.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.look()
	if err == nil && stamps == c.stamps {
		return c.now
	}
	var fresh *tls.Config
	if err == nil {
		fresh, err = c.load()
	}
	if err != nil {
		// In the middle of a rotation key and certificate may not belong together:
		// the stamps stay as they were, and the next handshake tries again.
		c.log.Warn().Err(err).Msg("new certificate cannot be used; the old one stays")
		return c.now
	}
	c.stamps, c.now = stamps, fresh
	c.log.Info().Msg("certificate reloaded")
	return c.now
}

func (c *certificates) look() (out [3]stamp, err error) {
	for i, name := range []string{c.files.CertFile, c.files.KeyFile, c.files.ClientCAFile} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return out, err
		}
		out[i] = stamp{info.Size(), info.ModTime()}
	}
	return out, nil
}

func (c *certificates) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.files.CertFile, c.files.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", c.files.CertFile, c.files.KeyFile, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{pair}}
	if c.files.ClientCAFile == "" {
		return out, nil
	}
	data, err := os.ReadFile(c.files.ClientCAFile)
	if err != nil {
		return nil, err
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(data) {
		return nil, errors.New(c.files.ClientCAFile + " holds no certificate in PEM")
	}
	// Probes come without one; guard asks for it everywhere else.
	out.ClientAuth = tls.VerifyClientCertIfGiven
	// A resumed session would go by the authorities of the time when it began.
	out.SessionTicketsDisabled = true
	return out, nil
}
