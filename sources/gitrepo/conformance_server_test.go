package gitrepo_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

var accessCases = []aCase{
	{name: "credential rotated", run: rotated, http: true},
	{name: "credential revoked and given back", run: revoked, http: true},
	{name: "credential expired between listing and download", run: expired, http: true},
	{name: "access forbidden", run: forbidden, http: true},
	{name: "credential file gone", run: fileGone, http: true},
}

// withFile makes sources read their password from a file, and answers how to
// write it.
func withFile(t *testing.T) (use func(*gitrepo.Options), put func(string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	return func(o *gitrepo.Options) { o.PasswordFile = file }, func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func rotated(t *testing.T, f *fixture) {
	use, put := withFile(t)
	put("one")
	f.server.RequireAuth("git", "one")
	r := f.open(t, use)
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	wantFetched(t, r, commit)
	f.server.RequireAuth("git", "two")
	f.wantRefused(t, r, gitrepo.ErrAuth, "rotated", commit)
	put("two")
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "2"}))
}

func revoked(t *testing.T, f *fixture) {
	f.server.RequireAuth("git", "token-1")
	r := f.open(t, func(o *gitrepo.Options) { o.Password = "token-1" })
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	wantFetched(t, r, commit)
	f.server.RequireAuth("git", "nobody knows")
	for range 3 {
		f.wantRefused(t, r, gitrepo.ErrAuth, "refused the credentials", commit)
	}
	f.server.RequireAuth("git", "token-1")
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "2"}))
}

func expired(t *testing.T, f *fixture) {
	r := f.open(t, func(o *gitrepo.Options) { o.Password = "token-1" })
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	wantFetched(t, r, commit)
	next := f.commit(t, sourcetest.Files{"a": "2"})
	f.server.SetFault(gitserver.OnPack(gitserver.Status(http.StatusUnauthorized)))
	f.wantRefused(t, r, gitrepo.ErrAuth, "credentials", commit)
	f.server.SetFault(nil)
	wantFetched(t, r, next)
}

func forbidden(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t, func(o *gitrepo.Options) { o.Password = "token-1" })
	wantFetched(t, r, commit)
	f.server.SetFault(gitserver.Status(http.StatusForbidden))
	f.wantRefused(t, r, gitrepo.ErrAuth, "read access", commit)
}

func fileGone(t *testing.T, f *fixture) {
	use, put := withFile(t)
	put("token-1")
	f.server.RequireAuth("git", "token-1")
	var file string
	r := f.open(t, use, func(o *gitrepo.Options) { file = o.PasswordFile })
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	wantFetched(t, r, commit)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("fetch without the file: %v", err)
	}
	wantLast(t, r, commit)
	put("token-1")
	wantFetched(t, r, commit)
}

var serverCases = append(faultCases(), []aCase{
	{name: "server slow but moving", run: slow, http: true},
	{name: "a pack over the limit", run: hugePack, http: true},
	{name: "a listing without an end", run: endlessListing, http: true},
	{name: "a pack that claims a terabyte", run: lyingPack, http: true},
	{name: "every byte of a pack flipped", run: flippedPacks, http: true},
	{name: "server gone", run: serverGone, http: true},
}...)

// faultCases are servers that answer wrongly, each once to the listing or the
// download of a new commit: an error that says so, the last good commit in
// force, nothing left behind, and the new commit as soon as the server behaves.
func faultCases() []aCase {
	retry := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "slow down", http.StatusTooManyRequests)
	}
	body := func(text string) gitserver.Fault { return gitserver.OnPack(garbage(text)) }
	var cases []aCase
	for _, c := range []struct {
		name  string
		fault gitserver.Fault
		want  string
	}{
		{"500 for the listing", gitserver.Status(http.StatusInternalServerError), "500"},
		{"503 for the listing", gitserver.Status(http.StatusServiceUnavailable), "503"},
		{"429 with the time to come back", retry, "429 too many requests: slow down (it asks to come back after 120)"},
		{"a page for the listing", gitserver.HTML(), "text/html"},
		{"hangs before the listing", gitserver.Hang(), "no answer within 300ms"},
		{"hangs in the listing", gitserver.HangAfter(60), "no answer within"},
		{"closes in the listing", gitserver.CutAfter(60), "EOF"},
		{"500 for the pack", gitserver.OnPack(gitserver.Status(500)), "500"},
		{"429 for the pack", gitserver.OnPack(retry), "come back after 120"},
		{"a page for the pack", gitserver.OnPack(gitserver.HTML()), "text/html"},
		{"hangs before the pack", gitserver.OnPack(gitserver.Hang()), "no answer within"},
		{"hangs in the pack", gitserver.OnPack(gitserver.HangAfter(700)), "no answer within"},
		{"closes before the pack", gitserver.OnPack(gitserver.CutAfter(20)), ""},
		{"closes in the pack", gitserver.OnPack(gitserver.CutAfter(700)), "EOF"},
		{"a pack without its end", gitserver.OnPack(rewritten(truncated)), ""},
		{"a pack with another checksum", gitserver.OnPack(rewritten(checksum)), ""},
		{"garbage for the pack", body("0008NAK\nPACKgarbage that is no pack at all"), ""},
		{"nothing for the pack", body(""), ""},
		{"an empty pack", body("0008NAK\n0000"), ""},
		{"an error in place of the pack", body("0011ERR go away\n0000"), ""},
		{"a line that is cut off", body("0031shallow"), ""},
		{"lines of impossible lengths", body("fffffffff0001zzzz"), ""},
	} {
		cases = append(cases, aCase{name: c.name, http: true, run: func(t *testing.T, f *fixture) { f.endures(t, c.fault, c.want) }})
	}
	return cases
}

func (f *fixture) endures(t *testing.T, fault gitserver.Fault, cause string) {
	first := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t, func(o *gitrepo.Options) {
		if strings.HasPrefix(cause, "no answer") {
			o.Timeout = 300 * time.Millisecond
		}
	})
	wantFetched(t, f.open(t), first)
	files := sourcetest.Files{}
	for i := range 100 {
		files[fmt.Sprint("f", i)] = fmt.Sprintf("%s %d", strings.Repeat("x", 100), i*i)
	}
	next := f.commit(t, files)
	f.server.SetFault(fault)
	f.wantRefused(t, r, gitrepo.ErrUnreachable, cause, first)
	f.server.SetFault(nil)
	if tmp, _ := filepath.Glob(filepath.Join(f.dir, "gen-*", "tmp-*")); len(tmp) != 0 {
		t.Errorf("left behind: %v", tmp)
	}
	if n := len(generations(t, f.dir)); n != 1 {
		t.Errorf("%d generations are left", n)
	}
	wantFetched(t, f.open(t), next)
}

// rewritten lets git answer and changes the packets of the answer.
func rewritten(change func(packets [][]byte) [][]byte) gitserver.Fault {
	return func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		rec := httptest.NewRecorder()
		git.ServeHTTP(rec, r)
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		for _, p := range change(split(rec.Body.Bytes())) {
			if p == nil {
				_, _ = w.Write([]byte("0000"))
				continue
			}
			_, _ = w.Write([]byte(packet(string(p))))
		}
	}
}

// packet puts its length before a text.
func packet(text string) string { return fmt.Sprintf("%04x%s", len(text)+4, text) }

// split takes an answer apart; nil is a flush packet.
func split(b []byte) (packets [][]byte) {
	for len(b) >= 4 {
		n, err := strconv.ParseUint(string(b[:4]), 16, 16)
		if err != nil || int(n) > len(b) {
			break
		}
		if n < 4 {
			packets, b = append(packets, nil), b[4:]
			continue
		}
		packets, b = append(packets, b[4:n]), b[n:]
	}
	return packets
}

// lastData finds the last packet of the pack itself: those begin with a 1.
func lastData(packets [][]byte) int {
	for i := len(packets) - 1; i >= 0; i-- {
		if len(packets[i]) > 1 && packets[i][0] == 1 {
			return i
		}
	}
	return -1
}

func truncated(packets [][]byte) [][]byte {
	if i := lastData(packets); i >= 0 {
		packets[i] = packets[i][:len(packets[i])/2]
	}
	return packets
}

func checksum(packets [][]byte) [][]byte {
	if i := lastData(packets); i >= 0 {
		packets[i][len(packets[i])-1] ^= 0xff
	}
	return packets
}

// slow sends a pack over a time that is longer than the timeout, without ever
// stopping for so long.
func slow(t *testing.T, f *fixture) {
	const timeout = 2 * time.Second
	r := f.open(t, func(o *gitrepo.Options) { o.Timeout = timeout })
	commit := f.commit(t, sourcetest.Files{"noise": randomText(40_000)})
	f.server.SetFault(gitserver.OnPack(gitserver.Trickle(2000, 110*time.Millisecond)))
	began := time.Now()
	wantFetched(t, r, commit)
	if took := time.Since(began); took < timeout {
		t.Errorf("the download took %s, which proves nothing", took)
	}
}

// randomText is a text that cannot be compressed much.
func randomText(n int) string {
	source := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(source.Uint32())
	}
	return string(b)
}

func hugePack(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t, func(o *gitrepo.Options) { o.Limits.PackBytes = 1 << 20 })
	wantFetched(t, r, commit)
	f.commit(t, sourcetest.Files{"noise": randomText(3 << 20)})
	f.wantRefused(t, r, gitrepo.ErrTooLarge, "raise the limit", commit)
	if total := packBytes(t, f.dir); total > 1<<20 {
		t.Errorf("%d bytes of it are left", total)
	}
	wantFetched(t, r, f.commit(t, sourcetest.Files{"noise": gitserver.Delete, "a": "2"}))
}

func endlessListing(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	f.server.SetFault(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = w.Write([]byte("001e# service=git-upload-pack\n0000" + packet(commit+" HEAD\x00side-band-64k\n")))
		lines := bytes.Repeat([]byte(packet(commit+" refs/heads/x\n")), 1000)
		for r.Context().Err() == nil {
			if _, err := w.Write(lines); err != nil {
				return
			}
		}
	})
	f.wantRefused(t, r, gitrepo.ErrTooLarge, "larger than", commit)
}

func lyingPack(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	next := f.commit(t, sourcetest.Files{"a": "2"})
	// One object, a difference (type 7) of 1 TiB.
	pack := "PACK\x00\x00\x00\x02\x00\x00\x00\x01" + "\xf0\x80\x80\x80\x80\x80\x01" + strings.Repeat("\x00", 40)
	f.server.SetFault(gitserver.OnPack(garbage(packet("NAK\n") + packet("\x01"+pack) + "0000")))
	snap, err := r.Fetch(t.Context())
	if err == nil {
		snap.Close()
		t.Fatal("the pack was taken")
	}
	wantLast(t, r, commit)
	f.server.SetFault(nil)
	wantFetched(t, r, next)
}

// flippedPacks flips bytes of the download, one at a time: no commit that was
// damaged on the way is ever taken for good.
func flippedPacks(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, first)
	next := f.commit(t, sourcetest.Files{"a": "2", "d/b": strings.Repeat("text ", 20)})
	size := 0
	f.server.SetFault(gitserver.OnPack(rewritten(func(packets [][]byte) [][]byte {
		size = len(packets[lastData(packets)]) - 1
		return nil // the download fails
	})))
	f.wantRefused(t, r, gitrepo.ErrUnreachable, "", first)
	step := 7
	if os.Getenv("HOLDFAST_LONG") != "" {
		step = 1
	}
	for at := 0; at < size; at += step {
		f.server.SetFault(gitserver.OnPack(rewritten(func(packets [][]byte) [][]byte {
			if p := packets[lastData(packets)]; at+1 < len(p) {
				p[at+1] ^= 0x20
			}
			return packets
		})))
		f.wantRefused(t, r, gitrepo.ErrUnreachable, "", first)
	}
	f.server.SetFault(nil)
	wantFetched(t, r, next)
}

func serverGone(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	f.server.Close()
	f.wantRefused(t, r, gitrepo.ErrUnreachable, "connection refused", commit)
	r.Close()
	wantLast(t, f.open(t), commit)
}
