package gitrepo

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// Signed says what of a revision has to carry a good signature.
type Signed string

// What Signed can be.
const (
	// SignedCommit is the commit itself.
	SignedCommit Signed = "commit"
	// SignedTag is the annotated tag that is followed.
	SignedTag Signed = "tag"
	// SignedEither is one of the two.
	SignedEither Signed = "either"
)

// Trust says whose signatures a revision needs. The zero value asks for none.
type Trust struct {
	// Signed says what has to be signed. Empty is SignedCommit where there are
	// files of keys.
	Signed Signed
	// OpenPGP are files of armored public keys. SSH are files of public keys, as
	// git's allowed_signers or as authorized_keys. They are read anew for each
	// revision that is judged.
	OpenPGP, SSH []string
}

// ErrUntrusted means that a revision lacks the signature that it needs.
var ErrUntrusted = errors.New("signature refused")

// errNoTag means that the annotated tag is not at hand.
var errNoTag = errors.New("the tag is not in the mirror")

const (
	// maxKeyFile bounds a file of keys.
	maxKeyFile = 4 << 20
	// maxSignature bounds a signature; the largest RSA keys make one of 4 KiB.
	maxSignature = 64 << 10
	// maxTagBytes bounds an annotated tag.
	maxTagBytes = 1 << 20
)

// trust judges signatures.
type trust struct {
	Trust
}

func newTrust(t Trust) (*trust, error) {
	if t.Signed == "" && len(t.OpenPGP)+len(t.SSH) == 0 {
		return nil, nil
	}
	if len(t.OpenPGP)+len(t.SSH) == 0 {
		return nil, fail(ErrUntrusted, "signatures are required, and no keys are given", "name files of OpenPGP or SSH public keys")
	}
	switch t.Signed {
	case "":
		t.Signed = SignedCommit
	case SignedCommit, SignedTag, SignedEither:
	default:
		return nil, fail(ErrUntrusted, fmt.Sprintf("it is not known how to require a signature on %q", t.Signed), "known are commit, tag and either")
	}
	return &trust{t}, nil
}

// key tells apart what was accepted under one requirement from what was under
// another.
func (t *trust) key(ref string) string {
	if t == nil {
		return ref
	}
	return fmt.Sprintf("%s signed %s %q %q", ref, t.Signed, t.OpenPGP, t.SSH)
}

// check judges a revision and answers who signed it.
func (t *trust) check(o *objects, at target) (by string, err error) {
	keys, err := t.load()
	if err != nil {
		return "", err
	}
	var refused []error
	if t.Signed != SignedCommit {
		if by, err = checkTag(o, at, keys); err == nil {
			return by, nil
		}
		refused = append(refused, err)
	}
	if t.Signed != SignedTag {
		if by, err = checkCommit(o, at, keys); err == nil {
			return by, nil
		}
		refused = append(refused, err)
	}
	return "", t.refusal(at, refused)
}

func (t *trust) refusal(at target, why []error) error {
	var texts []string
	for _, err := range why {
		if errors.Is(err, errNoTag) || errors.Is(err, errMissing) {
			return err
		}
		texts = append(texts, err.Error())
	}
	return fail(ErrUntrusted, fmt.Sprintf("revision %s is refused: %s", at.commit, strings.Join(texts, "; ")),
		"sign it with a key that is trusted, or add the key to the source's files; the last good revision stays in force")
}

// load reads the files of keys.
func (t *trust) load() (*signers, error) {
	keys := &signers{}
	for _, name := range t.OpenPGP {
		b, err := readKeyFile(name)
		if err == nil {
			err = keys.addOpenPGP(b)
		}
		if err != nil {
			return nil, fail(ErrUntrusted, fmt.Sprintf("read the OpenPGP keys of %s: %s", name, reasonOf(err)), "")
		}
	}
	for _, name := range t.SSH {
		b, err := readKeyFile(name)
		if err == nil {
			err = keys.addSSH(b)
		}
		if err != nil {
			return nil, fail(ErrUntrusted, fmt.Sprintf("read the SSH keys of %s: %s", name, reasonOf(err)), "")
		}
	}
	return keys, nil
}

// digest tells whether the files of keys are still what they were.
func (t *trust) digest() [sha256.Size]byte {
	h := sha256.New()
	for _, name := range slices.Concat(t.OpenPGP, t.SSH) {
		b, err := readKeyFile(name)
		fmt.Fprintf(h, "%q %v %d\n", name, err, len(b))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// reasonOf drops the path that an error of a file repeats.
func reasonOf(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("the file is larger than %d bytes", maxKeyFile)
	}
	return b, err
}

func checkCommit(o *objects, at target, keys *signers) (string, error) {
	raw, err := o.read(at.commit, plumbing.CommitObject, maxCommitBytes)
	if err != nil {
		return "", err
	}
	payload, signature, err := splitCommit(raw)
	if err != nil {
		return "", fmt.Errorf("the commit's signature cannot be read: %w", err)
	}
	if len(signature) == 0 {
		return "", errors.New("the commit is not signed")
	}
	by, err := keys.verify(payload, signature)
	if err != nil {
		return "", fmt.Errorf("the commit %w", err)
	}
	return by, nil
}

// checkTag judges an annotated tag. A tag says itself what it is called and what
// it points at: another one that was signed for something else is no good.
func checkTag(o *objects, at target, keys *signers) (string, error) {
	name, ok := strings.CutPrefix(at.ref, "refs/tags/")
	switch {
	case !ok:
		return "", errors.New("what is followed is no tag")
	case at.object == at.commit:
		return "", errors.New("the tag is not annotated, and so not signed")
	case at.object.IsZero() || o.find(at.object) == nil:
		return "", errNoTag
	}
	raw, err := o.read(at.object, plumbing.TagObject, maxTagBytes)
	if err != nil {
		return "", err
	}
	payload, signature := splitTag(raw)
	if len(signature) == 0 {
		return "", errors.New("the tag is not signed")
	}
	points, called := tagHeaders(payload)
	if called != name {
		return "", fmt.Errorf("the tag was made as %q and is served as %q", printable(called, 80), printable(name, 80))
	}
	if points != at.commit.String() {
		return "", errors.New("the tag does not point at the commit itself")
	}
	by, err := keys.verify(payload, signature)
	if err != nil {
		return "", fmt.Errorf("the tag %w", err)
	}
	return by, nil
}

// splitCommit parts a commit from its signature, as git does: the header gpgsig
// with its continued lines is the signature, further headers of that kind are
// left out, and all else is what was signed.
func splitCommit(raw []byte) (payload, signature []byte, err error) {
	const header = "gpgsig "
	inSignature, inOther, seen := false, false, false
	for len(raw) > 0 {
		line := raw
		if end := bytes.IndexByte(raw, '\n'); end >= 0 {
			line = raw[:end+1]
		}
		raw = raw[len(line):]
		switch {
		case len(line) == 1 && line[0] == '\n':
			return append(append(payload, line...), raw...), signature, nil
		case inSignature && line[0] == ' ':
			signature = append(signature, line[1:]...)
			continue
		case inOther && line[0] == ' ':
			continue
		}
		inSignature, inOther = false, false
		switch rest, ok := bytes.CutPrefix(line, []byte(header)); {
		case ok && seen:
			return nil, nil, errors.New("there is more than one")
		case ok:
			inSignature, seen = true, true
			signature = append(signature, rest...)
		case bytes.HasPrefix(line, []byte("gpgsig")):
			inOther = true
		default:
			payload = append(payload, line...)
		}
	}
	return payload, signature, nil
}

// splitTag parts a tag from the signature at its end.
func splitTag(raw []byte) (payload, signature []byte) {
	cut := len(raw)
	for at := 0; at < len(raw); {
		if kindOfSignature(raw[at:]) != "" {
			cut = at
		}
		next := bytes.IndexByte(raw[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return raw[:cut], raw[cut:]
}

// tagHeaders reads what a tag points at and what it is called.
func tagHeaders(raw []byte) (object, name string) {
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			break
		}
		if rest, ok := strings.CutPrefix(line, "object "); ok && object == "" {
			object = rest
		}
		if rest, ok := strings.CutPrefix(line, "tag "); ok && name == "" {
			name = rest
		}
	}
	return object, name
}
