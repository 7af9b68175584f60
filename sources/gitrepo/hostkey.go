package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// preferred are the kinds of host keys that an unknown server is asked for, so
// that the key which people are told to add is the one that they would choose.
var preferred = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// connect dials the server, proves that it is the known one and shows it our
// keys. The context bounds all of it.
func (w *sshWire) connect(ctx context.Context, creds *credentials) (*ssh.Client, net.Conn, error) {
	keys, err := w.opts.SSH.keys(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer keys.close()
	hosts, err := w.opts.SSH.hosts()
	if err != nil {
		return nil, nil, err
	}
	config := &ssh.ClientConfig{User: defaultUser, Auth: []ssh.AuthMethod{ssh.PublicKeys(keys.signers...)}}
	if creds.username != "" {
		config.User = creds.username
	}
	known := hosts.db.HostKeyAlgorithms(w.addr.host)
	config.HostKeyAlgorithms = known
	if len(known) == 0 {
		config.HostKeyAlgorithms = preferred
	}
	client, conn, err := w.handshake(ctx, config, hosts)
	if err != nil && len(known) > 0 && strings.Contains(err.Error(), "no common algorithm for host key") {
		// The server has none of the known kinds. What it has is told.
		config.HostKeyAlgorithms = preferred
		client, conn, err = w.handshake(ctx, config, hosts)
	}
	if err != nil && strings.Contains(err.Error(), "unable to authenticate") { // x/crypto has no type for it
		return nil, nil, fail(ErrAuth, fmt.Sprintf("the server refused the SSH key for user %q", printable(config.User, 60)),
			"add the public key to the account, or to the repository's deploy keys")
	}
	return client, conn, err
}

func (w *sshWire) handshake(ctx context.Context, config *ssh.ClientConfig, hosts *hostKeys) (*ssh.Client, net.Conn, error) {
	conn, err := w.opts.Proxy.dial(ctx, w.addr.host)
	if err != nil {
		return nil, nil, err
	}
	var refusal error
	config.HostKeyCallback = func(host string, remote net.Addr, key ssh.PublicKey) error {
		refusal = hosts.check(host, remote, key)
		return refusal
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, w.addr.host, config)
	if err == nil {
		return ssh.NewClient(c, channels, requests), conn, nil
	}
	conn.Close()
	switch {
	case refusal != nil:
		return nil, nil, refusal
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	}
	return nil, nil, err
}

// hostKeys are the keys of the servers that are trusted.
type hostKeys struct {
	db *knownhosts.HostKeyDB
	// file is where a new one is to be added.
	file string
}

func (o SSH) hosts() (*hostKeys, error) {
	h := &hostKeys{file: o.KnownHostsFile}
	candidates := []string{o.KnownHostsFile}
	if o.KnownHostsFile == "" {
		candidates = []string{"/etc/ssh/ssh_known_hosts"}
		h.file = candidates[0]
		if home, err := os.UserHomeDir(); err == nil {
			h.file = filepath.Join(home, ".ssh", "known_hosts")
			candidates = append(candidates, h.file)
		}
	}
	var files []string
	for _, path := range candidates {
		// One that does not exist knows nobody, and the error will say what to
		// write into it.
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			files = append(files, path)
		}
	}
	var err error
	if h.db, err = knownhosts.NewDB(files...); err != nil {
		return nil, fail(ErrHostKey, "read the known hosts: "+printable(err.Error(), 300), "")
	}
	return h, nil
}

// check refuses a server that is not known, or not by this key, and says what
// would have to be in the file.
func (h *hostKeys) check(host string, remote net.Addr, key ssh.PublicKey) error {
	err := h.db.HostKeyCallback()(host, remote, key)
	if err == nil {
		return nil
	}
	shown := fmt.Sprintf("%s %s", key.Type(), ssh.FingerprintSHA256(key))
	line := knownhosts.Line([]string{host}, key)
	var wrong *xknownhosts.KeyError
	var revoked *xknownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		return fail(ErrHostKey, fmt.Sprintf("the server's host key %s is marked as revoked at %s:%d", shown, revoked.Revoked.Filename, revoked.Revoked.Line), "")
	case errors.As(err, &wrong) && len(wrong.Want) == 0:
		return fail(ErrHostKey, "the server's host key "+shown+" is not known",
			fmt.Sprintf("if this is the fingerprint that its operator publishes, add to %s the line: %s", h.file, line))
	case errors.As(err, &wrong):
		return changed(wrong.Want, key, shown, line)
	}
	return fail(ErrHostKey, fmt.Sprintf("the server's host key %s is refused: %s", shown, printable(err.Error(), 200)), "")
}

// changed explains a key that is not the known one. Where that is of another
// kind the server may have both.
func changed(want []xknownhosts.KnownKey, key ssh.PublicKey, shown, line string) error {
	known := want[0]
	for _, w := range want {
		if w.Key.Type() == key.Type() && !bytes.Equal(w.Key.Marshal(), key.Marshal()) {
			known = w
		}
	}
	return fail(ErrHostKey,
		fmt.Sprintf("the server's host key is not the known one: it shows %s, and %s:%d has %s %s; somebody may be in between",
			shown, known.Filename, known.Line, known.Key.Type(), ssh.FingerprintSHA256(known.Key)),
		fmt.Sprintf("if its operator changed it, put in place of line %d the line: %s", known.Line, line))
}
