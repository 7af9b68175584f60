package gitrepo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// What a program prints at the other end of an SSH connection is a listing or
// is refused.
func FuzzSSHAdvertisement(f *testing.F) {
	http := advertised(usualCap, someID+" HEAD", someID+" refs/heads/main")
	f.Add(http[len(pkt("# service=git-upload-pack\n"))+4:], "")
	f.Add([]byte("Welcome to this host!\n0000"), "last login\n")
	f.Add([]byte(pkt("ERR access denied\x1b[2J\n")), "\x1b]0;x\a\r\nfatal: no\n")
	f.Fuzz(func(t *testing.T, out []byte, beside string) {
		s := &sshSession{out: bufio.NewReader(bytes.NewReader(out)), wait: func() error { return nil }}
		if _, err := s.said.Write([]byte(beside)); err != nil {
			t.Fatal(err)
		}
		adv, err := s.advertised()
		if err == nil {
			l := &listing{adv: adv}
			for _, ref := range []string{"", "main", "refs/heads/main", "none"} {
				if found, err := l.resolve(ref); err == nil && found.commit.IsZero() {
					t.Errorf("ref %q is at nothing", ref)
				}
			}
			return
		}
		if text := printable(err.Error(), maxErrorText); strings.ContainsAny(text, "\x1b\a\n") {
			t.Errorf("hostile text was let in: %q", text)
		}
	})
}

// What an LFS server answers is an address to fetch from, or is refused; our own
// credentials go nowhere but to the repository's host.
func FuzzLFSAnswer(f *testing.F) {
	p := pointer{oid: strings.Repeat("0a", 32), size: 3}
	for _, href := range []string{"https://git.example.org/objects/1", "https://elsewhere.example.org/1", "http://git.example.org/1", "file:///etc/passwd", "https://git.example.org:443@evil.example/1"} {
		text, err := json.Marshal(map[string]any{"objects": []any{map[string]any{"oid": p.oid, "actions": map[string]any{"download": map[string]any{"href": href, "header": map[string]string{"X": "y\r\nz"}}}}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(bytes.Replace(text, []byte(`"header":{"X":"y\r\nz"},`), nil, 1))
	}
	r, err := Open(Options{Name: "web", URL: "https://git.example.org/web.git", Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(r.Close)
	f.Fuzz(func(t *testing.T, text []byte) {
		var answer batchAnswer
		if json.Unmarshal(text, &answer) != nil {
			return
		}
		action, err := answer.action(p)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\a\n") {
				t.Errorf("hostile text was let in: %q", err)
			}
			return
		}
		req, err := r.actionRequest(t.Context(), action, &credentials{username: "ada", password: "hunter22"})
		if err != nil {
			return
		}
		if req.URL.Scheme != "https" {
			t.Errorf("leaves TLS for %s", req.URL)
		}
		if _, password, _ := req.BasicAuth(); password == "hunter22" && !strings.EqualFold(req.URL.Hostname(), "git.example.org") {
			t.Errorf("our credentials would go to %s", req.URL)
		}
	})
}

// The answer to a request for a pack, up to where the pack begins.
func FuzzPackResponse(f *testing.F) {
	f.Add([]byte(pkt("shallow "+someID) + "0000" + pkt("NAK\n") + pkt("\x01PACK") + "0000"))
	f.Add([]byte(pkt("ACK "+someID+" common\n") + pkt("ACK "+someID+" ready\n") + pkt("NAK\n") + "0000"))
	f.Add([]byte(pkt("unshallow "+someID) + pkt("ERR upload-pack: not our ref\n")))
	f.Fuzz(func(_ *testing.T, answer []byte) {
		for _, depth := range []packp.Depth{nil, packp.DepthCommits(1)} {
			req := packp.NewUploadPackRequest()
			req.Wants, req.Depth = []plumbing.Hash{plumbing.NewHash(someID)}, depth
			s := &sshSession{in: nowhere{}, out: bufio.NewReader(bytes.NewReader(answer)), wait: func() error { return nil }}
			if resp, err := s.exchange(req); err == nil {
				_, _ = bufio.NewReader(resp).Peek(10)
			}
		}
	})
}

// nowhere takes what is sent to a program that does not listen.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (nowhere) Close() error { return nil }
