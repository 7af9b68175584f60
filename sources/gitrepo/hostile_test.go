package gitrepo

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fixtureKeys(t testing.TB) *signers {
	t.Helper()
	s := &signers{}
	if err := s.addOpenPGP(fixture(t, "gpg-key.asc")); err != nil {
		t.Fatal(err)
	}
	if err := s.addSSH(fixture(t, "ssh-key.pub")); err != nil {
		t.Fatal(err)
	}
	return s
}

// The fixtures were signed by GnuPG 2.2 and OpenSSH 9.2 as git runs them.
func TestSignaturesOfTheProgramsThatPeopleUse(t *testing.T) {
	keys := fixtureKeys(t)
	for _, name := range []string{"gpg-commit.txt", "ssh-commit.txt"} {
		payload, signature, err := splitCommit(fixture(t, name))
		if err != nil {
			t.Fatal(err)
		}
		by, err := keys.verify(payload, signature)
		if err != nil || !strings.Contains(by, "ada@example.com") {
			t.Errorf("%s: %q, %v", name, by, err)
		}
		for i := range payload {
			changed := bytes.Clone(payload)
			changed[i] ^= 1
			if _, err := keys.verify(changed, signature); err == nil {
				t.Fatalf("%s: accepted with byte %d changed", name, i)
			}
		}
	}
	payload, signature := splitTag(fixture(t, "gpg-tag.txt"))
	if _, name := tagHeaders(payload); name != "v1.0.0" {
		t.Errorf("the tag is called %q", name)
	}
	if by, err := keys.verify(payload, signature); err != nil {
		t.Errorf("tag: %q, %v", by, err)
	}
}

func TestKeyFiles(t *testing.T) {
	key := strings.Join(strings.Fields(string(fixture(t, "ssh-key.pub")))[:2], " ")
	for line, want := range map[string]string{
		key:                      "",
		key + " ada at work":     "",
		"ada@example.com " + key: "",
		"ada@example.com namespaces=\"file,git\" " + key: "",
		"ada@example.com namespaces=\"file\" " + key:     "not allowed to sign for git",
		"ada@example.com cert-authority " + key:          "not supported",
		"ada@example.com valid-before=\"2020\" " + key:   "not supported",
		"a b c " + key:     "more than a name and options",
		"nothing of use":   "line 1: there is no public key",
		"# only a comment": "there is no key in it",
	} {
		err := (&signers{}).addSSH([]byte(line + "\n"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func TestModulesFile(t *testing.T) {
	got, err := parseModules([]byte(`# comment
[core]
	bare = false
[submodule "one"]
	path = a/b ; where
	URL = "https://example.org/x#y.git"
	branch = main
[submodule "two words"] # more
	path = "c d"
	url = ../\
two.git
[submodule "without url"]
	path = e
`))
	want := []moduleEntry{{"a/b", "https://example.org/x#y.git"}, {"c d", "../two.git"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestResolveURL(t *testing.T) {
	for _, c := range [][3]string{
		{"https://example.org/a/b.git", "../c.git", "https://example.org/a/c.git"},
		{"https://example.org/a/b.git/", "../../c/d", "https://example.org/c/d"},
		{"https://example.org:8443/a/b", "./c", "https://example.org:8443/a/b/c"},
		{"git@example.org:a/b.git", "../c.git", "git@example.org:a/c.git"},
		{"git@example.org:b.git", "../c.git", "git@example.org:c.git"},
		{"ssh://git@example.org/~ada/b.git", "../c.git", "ssh://git@example.org/~ada/c.git"},
		{"https://example.org/a", "https://other.org/b", "https://other.org/b"},
		{"https://example.org/a", "../../b", ""},
		{"https://example.org", "../b", ""},
		{"git@example.org:a", "../../b", ""},
	} {
		got, err := resolveURL(c[0], c[1])
		if got != c[2] || (err != nil) != (c[2] == "") {
			t.Errorf("%s + %s = %q, %v; want %q", c[0], c[1], got, err, c[2])
		}
	}
}

// A commit is whatever somebody pushed: what is split is what git would sign,
// and nothing but what was signed is ever accepted.
func FuzzSignedCommit(f *testing.F) {
	f.Add(fixture(f, "gpg-commit.txt"))
	f.Add(fixture(f, "ssh-commit.txt"))
	f.Add([]byte("tree 1\ngpgsig a\n b\ngpgsig-sha256 c\n d\n\nmessage\n"))
	keys := fixtureKeys(f)
	good := map[string]bool{}
	for _, name := range []string{"gpg-commit.txt", "ssh-commit.txt"} {
		payload, _, err := splitCommit(fixture(f, name))
		if err != nil {
			f.Fatal(err)
		}
		good[string(payload)] = true
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		payload, signature, err := splitCommit(raw)
		if err != nil {
			return
		}
		if len(payload)+len(signature) > len(raw) {
			t.Fatal("there is more than came in")
		}
		if _, err := keys.verify(payload, signature); err == nil && !good[string(payload)] {
			t.Errorf("accepted: %q", raw)
		}
	})
}

func FuzzSignedTag(f *testing.F) {
	f.Add(fixture(f, "gpg-tag.txt"))
	f.Add([]byte("object 1\ntag x\n\n-----BEGIN SSH SIGNATURE-----\n"))
	keys := fixtureKeys(f)
	payload, _ := splitTag(fixture(f, "gpg-tag.txt"))
	good := string(payload)
	f.Fuzz(func(t *testing.T, raw []byte) {
		payload, signature := splitTag(raw)
		if len(payload)+len(signature) != len(raw) {
			t.Fatal("bytes were lost")
		}
		tagHeaders(payload)
		if _, err := keys.verify(payload, signature); err == nil && string(payload) != good {
			t.Errorf("accepted: %q", raw)
		}
	})
}

func FuzzModulesFile(f *testing.F) {
	f.Add([]byte("[submodule \"a\"]\n\tpath = a\n\turl = ../b.git\n"))
	f.Add([]byte("[submodule \"a\"]\n\tpath = \"a\\tb\" # c\n\turl = x\\\n y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseModules(b)
		if err != nil {
			return
		}
		for _, m := range all {
			if m.path == "" || m.url == "" {
				t.Errorf("half an entry: %+v", m)
			}
			if u, err := resolveURL("https://example.org/a/b.git", m.url); err == nil && strings.HasPrefix(m.url, "../") && !strings.HasPrefix(u, "https://example.org/") {
				t.Errorf("a relative url leads to %q", u)
			}
			_, _ = parseAddress(m.url)
		}
	})
}

func FuzzPointer(f *testing.F) {
	f.Add([]byte("version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("0a", 32) + "\nsize 12\n"))
	f.Add([]byte("version https://git-lfs.github.com/spec/v1\next-0-x sha256:1\nsize -1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePointer(b)
		if err == nil && (!isSHA256(p.oid) || p.size < 0) {
			t.Errorf("%+v of %q", p, b)
		}
	})
}

// A file in memory behaves as one on disk does.
func TestMemFile(t *testing.T) {
	disk, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	mem := &memFile{}
	block := bytes.Repeat([]byte("0123456789"), 60_000)
	for _, f := range []scratch{disk, mem} {
		for _, at := range []int64{0, 599_990, 100, 262_143} {
			if _, err := f.Seek(at, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(block[:300_000]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.WriteAt([]byte("end"), 1_000_000); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(950_001); err != nil {
			t.Fatal(err)
		}
	}
	want, got := make([]byte, 950_001), make([]byte, 950_002)
	if _, err := disk.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	n, err := mem.ReadAt(got, 0)
	// What lies between the end of one write and the start of the next reads as
	// zeroes in both.
	if n != len(want) || err == nil || plumbing.ComputeHash(plumbing.BlobObject, got[:n]) != plumbing.ComputeHash(plumbing.BlobObject, want) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
