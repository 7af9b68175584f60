package gitrepo

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// SSH says with which keys to go to an SSH server, and which servers to trust.
// All files are read anew for each connection.
type SSH struct {
	// KeyFiles hold private keys in the form of OpenSSH or PEM.
	KeyFiles []string
	// PassphraseFile holds the passphrase of those that are encrypted.
	PassphraseFile string
	// Agent is the socket of an SSH agent whose keys are used, too.
	Agent string
	// KnownHostsFile holds the keys of servers in the form of OpenSSH's
	// known_hosts. Without it those of the user and of the machine are used:
	// ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
	KnownHostsFile string
}

// usual are the keys that OpenSSH tries by itself.
var usual = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// sshKeys are the keys for one connection.
type sshKeys struct {
	signers []ssh.Signer
	// close lets go of the agent, after the handshake.
	close func()
}

// keys reads the configured keys. Where neither keys nor an agent are
// configured, the agent of SSH_AUTH_SOCK is asked, and the user's usual keys are
// read.
func (o SSH) keys(ctx context.Context) (*sshKeys, error) {
	k := &sshKeys{close: func() {}}
	socket, files := o.Agent, o.KeyFiles
	implicit := socket == "" && len(files) == 0
	if implicit {
		socket, files = os.Getenv("SSH_AUTH_SOCK"), usualKeys()
	}
	for _, path := range files {
		signer, err := o.readKey(path)
		var locked *ssh.PassphraseMissingError
		if implicit && errors.As(err, &locked) {
			continue // its owner unlocks it in an agent
		}
		if err != nil {
			return nil, keyFailure(path, err)
		}
		k.signers = append(k.signers, signer)
	}
	if socket != "" {
		if err := k.ask(ctx, socket); err != nil && !implicit {
			return nil, fail(ErrAuth, fmt.Sprintf("ask the SSH agent at %s: %v", socket, err), "check that it runs, and that it holds a key")
		}
	}
	if len(k.signers) == 0 {
		k.close()
		return nil, fail(ErrAuth, "there is no SSH key to use", "configure a key file or an agent that holds one")
	}
	return k, nil
}

func usualKeys() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range usual {
		path := filepath.Join(home, ".ssh", name)
		if _, err := os.Stat(path); err == nil {
			out = append(out, path)
		}
	}
	return out
}

func (o SSH) readKey(path string) (ssh.Signer, error) {
	pem, err := readBounded(path, maxSecret)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	var locked *ssh.PassphraseMissingError
	if !errors.As(err, &locked) || o.PassphraseFile == "" {
		return signer, err
	}
	passphrase, err := readSecret(o.PassphraseFile, "passphrase of the SSH key")
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKeyWithPassphrase(pem, []byte(passphrase))
}

// keyFailure says what is wrong with a key, without anything of it.
func keyFailure(path string, err error) error {
	var locked *ssh.PassphraseMissingError
	var file *fs.PathError
	switch {
	case isFailure(err):
		return err
	case errors.As(err, &locked):
		return fail(ErrAuth, "the SSH key "+path+" is encrypted", "name the file of its passphrase")
	case errors.Is(err, x509.IncorrectPasswordError):
		return fail(ErrAuth, "the passphrase of the SSH key "+path+" is wrong", "")
	case errors.As(err, &file):
		return fail(ErrAuth, fmt.Sprintf("read the SSH key: %v", file), "")
	}
	return fail(ErrAuth, "the SSH key "+path+" cannot be read", "it has to be a private key, in the form of OpenSSH or PEM")
}

// ask adds the keys of an agent, which signs itself.
func (k *sshKeys) ask(ctx context.Context, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	signers, err := agent.NewClient(conn).Signers()
	if err == nil && len(signers) == 0 {
		err = errors.New("it holds no key")
	}
	if err != nil {
		stop()
		conn.Close()
		return err
	}
	k.signers = append(k.signers, signers...)
	k.close = func() {
		stop()
		conn.Close()
	}
	return nil
}
