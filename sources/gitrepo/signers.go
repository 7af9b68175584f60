package gitrepo

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"
)

const (
	armorPGP = "-----BEGIN PGP SIGNATURE-----"
	armorSSH = "-----BEGIN SSH SIGNATURE-----"
	// sshNamespace is what git signs for; a signature that was made for files or
	// mail says another.
	sshNamespace = "git"
)

// signers are the keys that are trusted.
type signers struct {
	pgp openpgp.EntityList
	ssh []sshSigner
}

// sshSigner is one SSH key and who has it.
type sshSigner struct {
	name string
	key  ssh.PublicKey
}

func (s *signers) addOpenPGP(b []byte) error {
	found, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("it is no armored key ring: %s", printable(err.Error(), 120))
	}
	s.pgp = append(s.pgp, found...)
	return nil
}

// addSSH reads git's allowed_signers, in which names come before the key, and
// authorized_keys, in which they come after it.
func (s *signers) addSSH(b []byte) error {
	before := len(s.ssh)
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		signer, err := parseSigner(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		s.ssh = append(s.ssh, signer)
	}
	if len(s.ssh) == before {
		return errors.New("there is no key in it")
	}
	return nil
}

// parseSigner reads one line. An option that narrows what a key may sign must
// not be passed over, so those that are not known are errors.
func parseSigner(line string) (sshSigner, error) {
	fields := strings.Fields(line)
	for i := 0; i+1 < len(fields); i++ {
		raw, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil {
			continue
		}
		key, err := ssh.ParsePublicKey(raw)
		if err != nil || key.Type() != fields[i] {
			continue
		}
		if _, isCert := key.(*ssh.Certificate); isCert {
			return sshSigner{}, errors.New("certificates are not supported (name the key itself)")
		}
		if i > 2 {
			return sshSigner{}, errors.New("there is more than a name and options before the key")
		}
		if i == 2 || i == 1 && strings.Contains(fields[0], "=\"") {
			if err := checkOptions(fields[i-1]); err != nil {
				return sshSigner{}, err
			}
		}
		name := strings.Join(fields[i+2:], " ")
		if i > 0 && !strings.Contains(fields[0], "=\"") {
			name = fields[0]
		}
		return sshSigner{name: printable(name, 80), key: key}, nil
	}
	return sshSigner{}, errors.New("there is no public key on it")
}

func checkOptions(options string) error {
	for option := range strings.SplitSeq(options, "\",") {
		name, value, _ := strings.Cut(option, "=")
		if !strings.EqualFold(name, "namespaces") {
			return fmt.Errorf("the option %q is not supported (the only one that is, is namespaces)", printable(name, 40))
		}
		if !slices.Contains(strings.Split(strings.Trim(value, "\""), ","), sshNamespace) {
			return fmt.Errorf("the key is not allowed to sign for %s", sshNamespace)
		}
	}
	return nil
}

// kindOfSignature recognizes a signature by its first line.
func kindOfSignature(b []byte) string {
	for _, kind := range []string{armorPGP, armorSSH} {
		if rest, ok := bytes.CutPrefix(b, []byte(kind)); ok && (len(rest) == 0 || rest[0] == '\n' || rest[0] == '\r') {
			return kind
		}
	}
	return ""
}

// verify answers who signed, or an error that says who did and who may.
func (s *signers) verify(payload, signature []byte) (string, error) {
	if len(signature) > maxSignature {
		return "", fmt.Errorf("has a signature of more than %d bytes", maxSignature)
	}
	switch kindOfSignature(signature) {
	case armorPGP:
		return s.verifyPGP(payload, signature)
	case armorSSH:
		return s.verifySSH(payload, signature)
	}
	return "", errors.New("has a signature that is neither OpenPGP's nor SSH's")
}

func (s *signers) verifyPGP(payload, signature []byte) (string, error) {
	by := issuer(signature)
	entity, err := openpgp.CheckArmoredDetachedSignature(s.pgp, bytes.NewReader(payload), bytes.NewReader(signature), nil)
	switch {
	case err == nil && entity != nil:
		return pgpName(entity), nil
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "", fmt.Errorf("is signed by OpenPGP key %s, which has expired", by)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "", fmt.Errorf("is signed by OpenPGP key %s, which was revoked", by)
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return "", fmt.Errorf("has a signature by OpenPGP key %s that has expired", by)
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", fmt.Errorf("is signed by OpenPGP key %s, which is not trusted; %s", by, s.tried())
	}
	return "", fmt.Errorf("has a signature by OpenPGP key %s that does not match it; %s", by, s.tried())
}

// issuer is the key that a signature claims to be made with.
func issuer(signature []byte) string {
	block, err := armor.Decode(bytes.NewReader(signature))
	if err != nil {
		return "unknown"
	}
	packets := packet.NewReader(block.Body)
	for range 8 {
		p, err := packets.Next()
		if err != nil {
			break
		}
		sig, ok := p.(*packet.Signature)
		switch {
		case !ok:
		case len(sig.IssuerFingerprint) > 0:
			return strings.ToUpper(hex.EncodeToString(sig.IssuerFingerprint))
		case sig.IssuerKeyId != nil:
			return fmt.Sprintf("%016X", *sig.IssuerKeyId)
		}
	}
	return "unknown"
}

func pgpName(e *openpgp.Entity) string {
	print := strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
	if id := e.PrimaryIdentity(); id != nil {
		return printable(id.Name, 80) + " (OpenPGP " + print + ")"
	}
	return "OpenPGP " + print
}

// tried names the trusted keys by their fingerprints.
func (s *signers) tried() string {
	const most = 10
	var prints []string
	for _, e := range s.pgp {
		prints = append(prints, strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint)))
	}
	for _, k := range s.ssh {
		prints = append(prints, ssh.FingerprintSHA256(k.key))
	}
	more := ""
	if len(prints) > most {
		more = fmt.Sprintf(" and %d more", len(prints)-most)
		prints = prints[:most]
	}
	return "trusted are " + strings.Join(prints, ", ") + more
}

// sshSignature is the blob of an SSH signature:
// https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL.sshsig
type sshSignature struct {
	Magic     [6]byte
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// sshSigned is what such a signature is made over.
type sshSigned struct {
	Magic     [6]byte
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

var sshMagic = [6]byte{'S', 'S', 'H', 'S', 'I', 'G'}

func parseSSHSignature(signature []byte) (sshSignature, ssh.PublicKey, *ssh.Signature, error) {
	var blob sshSignature
	block, rest := pem.Decode(signature)
	if block == nil || block.Type != "SSH SIGNATURE" || len(bytes.TrimSpace(rest)) > 0 {
		return blob, nil, nil, errors.New("the armor is malformed")
	}
	if err := ssh.Unmarshal(block.Bytes, &blob); err != nil {
		return blob, nil, nil, errors.New("the signature is malformed")
	}
	if blob.Magic != sshMagic || blob.Version != 1 {
		return blob, nil, nil, errors.New("it is not a signature of version 1")
	}
	key, err := ssh.ParsePublicKey(blob.PublicKey)
	if err != nil {
		return blob, nil, nil, errors.New("its public key is malformed")
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(blob.Signature, &sig); err != nil {
		return blob, nil, nil, errors.New("the signature is malformed")
	}
	return blob, key, &sig, nil
}

func (s *signers) verifySSH(payload, signature []byte) (string, error) {
	blob, key, sig, err := parseSSHSignature(signature)
	if err != nil {
		return "", fmt.Errorf("has an SSH signature that cannot be read: %w", err)
	}
	by := ssh.FingerprintSHA256(key)
	if blob.Namespace != sshNamespace {
		return "", fmt.Errorf("has an SSH signature by %s that was made for %q, not for %s", by, printable(blob.Namespace, 40), sshNamespace)
	}
	if sig.Format == ssh.KeyAlgoRSA {
		return "", fmt.Errorf("has an SSH signature by %s that uses SHA-1", by)
	}
	digest, ok := digestOf(blob.Hash, payload)
	if !ok {
		return "", fmt.Errorf("has an SSH signature by %s over an unknown hash", by)
	}
	i := slices.IndexFunc(s.ssh, func(k sshSigner) bool { return bytes.Equal(k.key.Marshal(), key.Marshal()) })
	if i < 0 {
		return "", fmt.Errorf("is signed by SSH key %s, which is not trusted; %s", by, s.tried())
	}
	over := ssh.Marshal(sshSigned{sshMagic, blob.Namespace, blob.Reserved, blob.Hash, digest})
	if err := s.ssh[i].key.Verify(over, sig); err != nil {
		return "", fmt.Errorf("has a signature by SSH key %s that does not match it", by)
	}
	return strings.TrimSpace(s.ssh[i].name + " (SSH " + by + ")"), nil
}

func digestOf(name string, payload []byte) ([]byte, bool) {
	kind := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha512": crypto.SHA512}[name]
	if kind == 0 || !kind.Available() {
		return nil, false
	}
	h := kind.New()
	h.Write(payload)
	return h.Sum(nil), true
}
