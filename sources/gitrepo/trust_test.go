package gitrepo_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// signer signs in one of the two ways, and has its public key in a file.
type signer struct {
	sign func(t *testing.T, payload string) string
	file string
	// print is the fingerprint.
	print string
}

func sshSigner(t *testing.T, namespace string) signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "allowed_signers")
	line := "# who may sign\nada@example.com namespaces=\"git\" " + string(ssh.MarshalAuthorizedKey(key.PublicKey()))
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer{file: file, print: ssh.FingerprintSHA256(key.PublicKey()), sign: func(t *testing.T, payload string) string {
		t.Helper()
		digest := sha512.Sum512([]byte(payload))
		sig, err := key.Sign(rand.Reader, append([]byte("SSHSIG"), ssh.Marshal(struct {
			Namespace, Reserved, Hash string
			Digest                    []byte
		}{namespace, "", "sha512", digest[:]})...))
		if err != nil {
			t.Fatal(err)
		}
		blob := append([]byte("SSHSIG"), ssh.Marshal(struct {
			Version                   uint32
			Key                       []byte
			Namespace, Reserved, Hash string
			Signature                 []byte
		}{1, key.PublicKey().Marshal(), namespace, "", "sha512", ssh.Marshal(sig)})...)
		return string(pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob}))
	}}
}

func pgpSigner(t *testing.T) signer {
	t.Helper()
	entity, err := openpgp.NewEntity("Grace Example", "", "grace@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.asc")
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		err = errors.Join(entity.Serialize(w), w.Close())
	}
	if err := errors.Join(err, os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return signer{file: file, print: fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint), sign: func(t *testing.T, payload string) string {
		t.Helper()
		var b bytes.Buffer
		if err := openpgp.ArmoredDetachSign(&b, entity, strings.NewReader(payload), nil); err != nil {
			t.Fatal(err)
		}
		return b.String() + "\n"
	}}
}

// signHead replaces the newest commit by one that is signed.
func (f *fixture) signHead(t *testing.T, by signer) string {
	t.Helper()
	// Git trims what it prints; a commit's message ends with a new line.
	raw := f.origin.Git(t, "", "cat-file", "commit", "main") + "\n"
	header, message, _ := strings.Cut(raw, "\n\n")
	signature := strings.ReplaceAll(strings.TrimSuffix(by.sign(t, raw), "\n"), "\n", "\n ")
	signed := header + "\ngpgsig " + signature + "\n\n" + message
	id := f.origin.Git(t, signed, "hash-object", "-t", "commit", "-w", "--stdin")
	f.origin.ForcePush(t, "refs/heads/main", id)
	return id
}

// signTag makes an annotated tag that calls itself name.
func (f *fixture) signTag(t *testing.T, name, commit string, by signer) string {
	t.Helper()
	raw := "object " + commit + "\ntype commit\ntag " + name + "\ntagger Ada Example <ada@example.com> 1767225600 +0000\n\nRelease\n"
	return f.origin.Git(t, raw+by.sign(t, raw), "hash-object", "-t", "tag", "-w", "--stdin")
}

func trusting(t gitrepo.Trust) func(*gitrepo.Options) {
	return func(o *gitrepo.Options) { o.Trust = t }
}

func wantRefused(t *testing.T, r *gitrepo.Repo, parts ...string) {
	t.Helper()
	snap, err := r.Fetch(t.Context())
	if err == nil {
		snap.Close()
		t.Fatal("the revision was accepted")
	}
	if !errors.Is(err, gitrepo.ErrUntrusted) {
		t.Errorf("error is of another kind: %v", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
}

func TestSignedCommits(t *testing.T) {
	for name, by := range map[string]signer{"ssh": sshSigner(t, "git"), "openpgp": pgpSigner(t)} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			trust := gitrepo.Trust{SSH: []string{by.file}}
			if name == "openpgp" {
				trust = gitrepo.Trust{OpenPGP: []string{by.file}}
			}
			f.commit(t, sourcetest.Files{"a": "1"})
			good := f.signHead(t, by)
			r := f.open(t, trusting(trust))
			snap := sourcetest.Fetch(t, r)
			if snap.Revision.ID != good || !strings.Contains(snap.Revision.Signer, by.print) {
				t.Errorf("fetched %+v", snap.Revision)
			}

			f.commit(t, sourcetest.Files{"a": "2"})
			wantRefused(t, r, "the commit is not signed", "last good revision stays")
			f.server.Reset()
			wantRefused(t, r, "the commit is not signed")
			f.wantRequests(t, 1, 0)
			f.signHead(t, sshSigner(t, "git"))
			wantRefused(t, r, "which is not trusted; trusted are "+by.print)

			last, err := r.Last()
			if err != nil {
				t.Fatal(err)
			}
			defer last.Close()
			if last.Revision.ID != good {
				t.Errorf("the last good revision is %s, want %s", last.Revision.ID, good)
			}
			f.commit(t, sourcetest.Files{"a": "3"})
			next := f.signHead(t, by)
			if snap := sourcetest.Fetch(t, r); snap.Revision.ID != next {
				t.Errorf("fetched %s, want %s", snap.Revision.ID, next)
			}
		})
	}
}

// What was fetched without signatures is not in force once they are required.
func TestTrustThatIsRequiredLater(t *testing.T) {
	f := newFixture(t)
	by := sshSigner(t, "git")
	f.commit(t, sourcetest.Files{"a": "1"})
	free := f.open(t)
	sourcetest.Fetch(t, free)
	strict := f.open(t, trusting(gitrepo.Trust{SSH: []string{by.file}}))
	if snap, err := strict.Last(); err == nil {
		snap.Close()
		t.Error("an unsigned revision of before is in force")
	}
	wantRefused(t, strict, "not signed")
	sourcetest.Fetch(t, free)
}

func TestKeysAreReadAnew(t *testing.T) {
	f := newFixture(t)
	first, second := sshSigner(t, "git"), sshSigner(t, "git")
	f.commit(t, sourcetest.Files{"a": "1"})
	good := f.signHead(t, first)
	r := f.open(t, trusting(gitrepo.Trust{SSH: []string{first.file}}))
	sourcetest.Fetch(t, r)
	f.commit(t, sourcetest.Files{"a": "2"})
	f.signHead(t, second)
	wantRefused(t, r, second.print)
	keys, err := os.ReadFile(second.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first.file, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	sourcetest.Fetch(t, r)
	// The first key is gone; what it signed is known to have been good.
	snap, err := r.Revision(t.Context(), commitID(good))
	if err != nil {
		t.Fatalf("the revision that was good before: %v", err)
	}
	snap.Close()
}

func TestSignaturesThatAreNone(t *testing.T) {
	by := sshSigner(t, "git")
	for name, c := range map[string]struct {
		by   signer
		want string
	}{
		"of files":          {sshSigner(t, "file"), `was made for "file", not for git`},
		"of something else": {signer{sign: func(t *testing.T, _ string) string { return by.sign(t, "another text") }}, "does not match"},
		"of no kind":        {signer{sign: func(*testing.T, string) string { return "-----BEGIN NOTHING-----\n" }}, "neither OpenPGP's nor SSH's"},
		"cut off":           {signer{sign: func(*testing.T, string) string { return "-----BEGIN SSH SIGNATURE-----\nAAAA" }}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.commit(t, sourcetest.Files{"a": "1"})
			f.signHead(t, c.by)
			wantRefused(t, f.open(t, trusting(gitrepo.Trust{SSH: []string{by.file}})), c.want)
		})
	}
}

func TestSignedTags(t *testing.T) {
	f := newFixture(t)
	by := pgpSigner(t)
	first := f.commit(t, sourcetest.Files{"a": "1"})
	second := f.commit(t, sourcetest.Files{"a": "2"})
	good := f.signTag(t, "v1.0.0", first, by)
	f.origin.ForcePush(t, "refs/tags/v1.0.0", good)
	open := func(ref string, signed gitrepo.Signed) *gitrepo.Repo {
		return f.open(t, func(o *gitrepo.Options) { o.Ref = ref }, trusting(gitrepo.Trust{Signed: signed, OpenPGP: []string{by.file}}))
	}
	if snap := sourcetest.Fetch(t, open("v1.0.0", gitrepo.SignedTag)); !strings.Contains(snap.Revision.Signer, "Grace Example") || snap.Revision.ID != first {
		t.Errorf("fetched %+v", snap.Revision)
	}
	sourcetest.Fetch(t, open("v1.0.0", gitrepo.SignedEither))
	wantRefused(t, open("v1.0.0", gitrepo.SignedCommit), "the commit is not signed")
	wantRefused(t, open("main", gitrepo.SignedTag), "what is followed is no tag")

	// A tag that was signed as another must not stand in for it.
	f.origin.ForcePush(t, "refs/tags/v2.0.0", good)
	wantRefused(t, open("v2.0.0", gitrepo.SignedTag), `made as "v1.0.0" and is served as "v2.0.0"`)
	f.origin.Tag(t, "v3.0.0", second, "")
	wantRefused(t, open("v3.0.0", gitrepo.SignedTag), "not annotated")
	f.origin.Tag(t, "v4.0.0", second, "Release four")
	wantRefused(t, open("v4.0.0", gitrepo.SignedTag), "the tag is not signed")

	// The tag may come after its commit was fetched by another ref.
	r := open("v5.0.0", gitrepo.SignedTag)
	sourcetest.Fetch(t, f.open(t))
	f.origin.ForcePush(t, "refs/tags/v5.0.0", f.signTag(t, "v5.0.0", second, by))
	if snap := sourcetest.Fetch(t, r); snap.Revision.ID != second {
		t.Errorf("fetched %s, want %s", snap.Revision.ID, second)
	}
}

func TestTrustOptions(t *testing.T) {
	f := newFixture(t)
	for name, trust := range map[string]gitrepo.Trust{
		"no keys":      {Signed: gitrepo.SignedCommit},
		"unknown word": {Signed: "everything", SSH: []string{"x"}},
	} {
		_, err := gitrepo.Open(gitrepo.Options{Name: "web", URL: f.origin.URL, Dir: f.dir, Trust: trust})
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	f.commit(t, sourcetest.Files{"a": "1"})
	f.signHead(t, sshSigner(t, "git"))
	wantRefused(t, f.open(t, trusting(gitrepo.Trust{SSH: []string{f.dir + "/absent"}})), "absent", "no such file")
}
