package sops

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	pgparmor "github.com/ProtonMail/go-crypto/openpgp/armor"
)

// maxKeyBytes bounds a key file, and a data key before it is decrypted.
const maxKeyBytes = 1 << 20

// Key names the file of a private key.
type Key struct {
	// Name is for people and errors.
	Name string
	// AgeFile holds age identities, PGPFile an armored OpenPGP private key
	// without a passphrase. One of them is set.
	AgeFile, PGPFile string
}

// Keyring is the keys that an environment may decrypt with. It is safe for
// concurrent use.
type Keyring struct {
	id      string
	names   []string
	age     []age.Identity
	pgp     openpgp.EntityList
	program *Program
}

// Open reads key files. The program, which may be nil, is for cloud key services.
// Errors name files, never what is in them.
func Open(keys []Key, program *Program) (*Keyring, error) {
	k := &Keyring{program: program}
	id := sha256.New()
	for _, key := range keys {
		file := key.AgeFile
		if file == "" {
			file = key.PGPFile
		}
		text, err := readKey(file)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key.Name, err)
		}
		if key.AgeFile != "" {
			err = k.addAge(text)
		} else {
			err = k.addPGP(text)
		}
		if err != nil {
			return nil, fmt.Errorf("key %s: %s %w", key.Name, file, err)
		}
		k.names = append(k.names, key.Name)
		fmt.Fprintf(id, "%s\x00%x\x00", key.Name, sha256.Sum256(text))
	}
	if program != nil {
		fmt.Fprintf(id, "%s %q", program.Path, program.Services)
	}
	k.id = hex.EncodeToString(id.Sum(nil))
	return k, nil
}

// ID tells one set of keys from another. It reveals nothing of them.
func (k *Keyring) ID() string { return k.id }

func readKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err == nil && len(text) > maxKeyBytes {
		err = fmt.Errorf("%s is too large for a key", file)
	}
	return text, err
}

func (k *Keyring) addAge(text []byte) error {
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		// The library's error can quote a line of the file.
		return errors.New("holds no age identities, or something beside them")
	}
	k.age = append(k.age, ids...)
	return nil
}

func (k *Keyring) addPGP(text []byte) error {
	entities, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(text))
	if err != nil {
		return errors.New("is not an armored OpenPGP key")
	}
	for _, e := range entities {
		if e.PrivateKey == nil {
			return errors.New("is a public key, and a private one is needed")
		}
		if e.PrivateKey.Encrypted {
			return errors.New("has a passphrase, and nobody is there to give it")
		}
	}
	k.pgp = append(k.pgp, entities...)
	return nil
}

// errOtherService says that the keys are of none, and a configured program may
// know the file's key service.
var errOtherService = errors.New("another key service is needed")

// dataKey decrypts the data key with whichever key can.
func (k *Keyring) dataKey(m metadata) ([]byte, error) {
	for _, key := range m.Age {
		if len(k.age) == 0 {
			break
		}
		r, err := age.Decrypt(armor.NewReader(strings.NewReader(key.Encrypted)), k.age...)
		if plain, ok := readDataKey(r, err); ok {
			return plain, nil
		}
	}
	for _, key := range m.PGP {
		if plain, ok := k.openPGP(key.Encrypted); ok {
			return plain, nil
		}
	}
	if len(m.services()) > 0 && k.program != nil {
		return nil, errOtherService
	}
	return nil, k.noKey(m)
}

func readDataKey(r io.Reader, err error) ([]byte, bool) {
	if err != nil {
		return nil, false
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxKeyBytes))
	return plain, err == nil
}

func (k *Keyring) openPGP(text string) ([]byte, bool) {
	if len(k.pgp) == 0 || len(text) > maxKeyBytes {
		return nil, false
	}
	block, err := pgparmor.Decode(strings.NewReader(text))
	if err != nil {
		return nil, false
	}
	message, err := openpgp.ReadMessage(block.Body, k.pgp, nil, nil)
	if err != nil {
		return nil, false
	}
	return readDataKey(message.UnverifiedBody, nil)
}

// noKey says for whom the file is encrypted, and what was tried.
func (k *Keyring) noKey(m metadata) error {
	var whom []string
	for _, key := range m.Age {
		whom = append(whom, "age "+short(key.Recipient))
	}
	for _, key := range m.PGP {
		whom = append(whom, "PGP "+short(key.Fingerprint))
	}
	for _, s := range m.services() {
		whom = append(whom, s.String())
	}
	tried := "none"
	if len(k.names) > 0 {
		tried = strings.Join(k.names, ", ")
	}
	if len(m.services()) == len(whom) && len(whom) > 0 {
		return fmt.Errorf("is encrypted for %s, and the daemon's configuration names no sops program for key services", strings.Join(whom, ", "))
	}
	return fmt.Errorf("is encrypted for %s; none of the keys (%s) decrypts it", strings.Join(whom, ", "), tried)
}

// short keeps what a hostile file says of its keys from filling a page.
func short(s string) string {
	const limit = 80
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return s
}
