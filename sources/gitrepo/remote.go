package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// errMoved means that the server no longer has what it just listed.
var errMoved = errors.New("the ref moved during the fetch")

// wire is a protocol in which servers are spoken to.
type wire interface {
	// open begins a conversation: the refs that the server has, and the session
	// in which to ask for a pack.
	open(context.Context, *credentials) (*listing, error)
	// close lets go of idle connections.
	close()
}

// session is a conversation that has come to the point where one pack can be
// asked for.
type session interface {
	// upload asks for a pack and reads up to where it begins. What is read
	// belongs to this context.
	upload(context.Context, *packp.UploadPackRequest) (io.ReadCloser, error)
	// again tells that further packs can be asked for.
	again() bool
	close()
}

// listing is what a server says that it has, and the session to fetch it in:
// go-git's own Remote would list a second time for the download, and cannot
// name the commits at hand together with a depth. It may be shared.
type listing struct {
	origin *origin
	creds  *credentials
	adv    *packp.AdvRefs
	begun  time.Time
	// moved is where the server redirected to, if it did.
	moved string
	// offers are the capabilities that go-git hides from its callers.
	offers offers
	// holders is guarded by the origin's lock.
	holders int

	mu      sync.Mutex
	session session
}

// offers are what a server can do in a negotiation.
type offers struct {
	// thin is a pack that builds on objects at hand.
	thin bool
	// acks is the most detailed way of confirming what is at hand, empty when
	// there is but the simplest.
	acks capability.Capability
}

// offered reads the capabilities as they come from the server.
func offered(caps func(string) bool) offers {
	o := offers{thin: caps("thin-pack")}
	switch {
	case caps("multi_ack_detailed"):
		o.acks = capability.MultiACKDetailed
	case caps("multi_ack"):
		o.acks = capability.MultiACK
	}
	return o
}

// maxSessionAge is how long a conversation may rest before the server is
// expected to have left it.
const maxSessionAge = 10 * time.Second

// claim gives the session of the listing, or a new one when another download
// has it.
func (l *listing) claim(ctx context.Context) (session, error) {
	l.mu.Lock()
	s := l.session
	if s != nil && !s.again() {
		l.session = nil
	}
	l.mu.Unlock()
	if s != nil && (s.again() || time.Since(l.begun) < maxSessionAge) {
		return s, nil
	}
	if s != nil {
		s.close()
	}
	fresh, err := l.origin.wire.open(ctx, l.creds)
	if err != nil {
		return nil, err
	}
	return fresh.session, nil
}

func (l *listing) closeSession() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != nil && !l.session.again() {
		l.session.close()
		l.session = nil
	}
}

// request says what to download.
type request struct {
	wants []plumbing.Hash
	// haves are commits whose trees the mirror holds in full.
	haves []plumbing.Hash
	// history asks for all commits, not for the wanted ones alone.
	history bool
	// depth, when not 0, asks for the commits back to what haves lead to, or to
	// that depth, without their files where the server can leave them out.
	depth int
	// behind, when not 0, asks for the commits that lead to the wanted ones, to that
	// depth, where the wanted ones are held in full; without files that are larger
	// than largest, where the server can leave them out.
	behind  int
	largest int64
	// limit bounds the bytes of the pack.
	limit int64
}

// download asks for a pack and hands it to store, which reads it to its end.
func (l *listing) download(ctx context.Context, q request, store func(io.Reader) error) error {
	ctx, stall := newStall(ctx, l.origin.timeout)
	defer stall.stop()
	s, err := l.claim(ctx)
	if err != nil {
		return stalled(ctx, err)
	}
	if !s.again() {
		defer s.close()
	}
	stall.moved()
	resp, err := s.upload(ctx, l.upload(q))
	if err != nil {
		return stalled(ctx, refused(err))
	}
	defer resp.Close()
	src := &packReader{src: l.demux(moving{resp, stall}), left: q.limit}
	err = store(src)
	if src.err != nil {
		err = src.err // what went wrong with the connection explains the rest
	}
	return stalled(ctx, err)
}

// upload builds the request. Depth 1 together with the commits at hand, named
// as shallow, makes the server send what differs between the trees. Without the
// shallow lines it would take their whole history as known, and send nothing
// when the ref goes back to an older commit. Between commits that the depth
// leaves unconnected, git looks for differences only for a thin pack.
//
// The most detailed acknowledgements are asked for where they are offered, as
// git does, since some servers (Azure DevOps) refuse those who do not. All that
// is at hand and the end of the negotiation go out at once, so that the answer
// is a row of ACK lines in any of the three ways, and then the pack.
func (l *listing) upload(q request) *packp.UploadPackRequest {
	req := packp.NewUploadPackRequestFromCapabilities(l.adv.Capabilities)
	req.Wants = q.wants
	if l.adv.Capabilities.Supports(capability.NoProgress) {
		_ = req.Capabilities.Set(capability.NoProgress) // takes no argument, so cannot fail
	}
	if l.offers.acks != "" {
		_ = req.Capabilities.Set(l.offers.acks)
	}
	switch {
	case q.depth > 0:
		l.deepen(req, q)
		return req
	case q.behind > 0:
		l.behindOf(req, q)
		return req
	}
	if !q.history && l.adv.Capabilities.Supports(capability.Shallow) {
		_ = req.Capabilities.Set(capability.Shallow)
		req.Depth = packp.DepthCommits(1)
		req.Haves = q.haves
		req.Shallows = q.haves
		if l.offers.thin && len(q.haves) > 0 {
			_ = req.Capabilities.Set(capability.ThinPack)
		}
	}
	return req
}

// deepen asks for history. Without shallow lines the server takes all that leads
// to haves as known, and sends just the commits since.
func (l *listing) deepen(req *packp.UploadPackRequest, q request) {
	req.Haves = q.haves
	if l.adv.Capabilities.Supports(capability.Shallow) {
		_ = req.Capabilities.Set(capability.Shallow)
		req.Depth = packp.DepthCommits(q.depth)
	}
	if l.adv.Capabilities.Supports(capability.Filter) {
		_ = req.Capabilities.Set(capability.Filter)
		req.Filter = packp.FilterTreeDepth(0)
	}
}

func (l *listing) demux(resp io.Reader) io.Reader {
	switch caps := l.adv.Capabilities; {
	case caps.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, resp)
	case caps.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, resp)
	}
	return resp
}

// tips are all branches and tags.
func (l *listing) tips() []plumbing.Hash {
	seen := map[plumbing.Hash]bool{}
	var hashes []plumbing.Hash
	for name, h := range l.adv.References {
		if (strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/")) && !seen[h] {
			seen[h] = true
			hashes = append(hashes, h)
		}
	}
	return hashes
}

// refused recognizes the server's refusal to give a commit. go-git passes it on
// as text only.
func refused(err error) error {
	text := err.Error()
	for _, sign := range []string{"not our ref", "unadvertised object", "no such ref", "unable to parse object"} {
		if strings.Contains(text, sign) {
			return fmt.Errorf("%w: %s", errMoved, printable(text, 200))
		}
	}
	return err
}

// stalled names a download that was given up because it did not move.
func stalled(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// moving keeps the stall timer from firing while anything comes. It stands before
// the demultiplexer, which hands nothing on until it has a packet whole, of up to
// 64 KiB, and keeps to itself what a server says while it puts a pack together.
type moving struct {
	src   io.Reader
	stall *stall
}

func (m moving) Read(b []byte) (int, error) {
	n, err := m.src.Read(b)
	if n > 0 {
		m.stall.moved()
	}
	return n, err
}

// packReader reads a pack from the network: it bounds it and remembers an error
// of the connection.
type packReader struct {
	src  io.Reader
	left int64
	err  error
}

func (p *packReader) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.src.Read(b)
	if p.left -= int64(n); p.left < 0 {
		p.err = fail(ErrTooLarge, "the download exceeds the limit of bytes for one pack", "raise the limit or make the repository smaller")
		return 0, p.err
	}
	if err != nil && err != io.EOF {
		p.err = err
	}
	return n, err
}
