package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// errMoved means that the server no longer has what it just listed.
var errMoved = errors.New("the ref moved during the fetch")

// listing is what a server says that it has, and the session to fetch it with:
// go-git's own Remote would list a second time for the download, and cannot
// name the commits at hand together with a depth.
type listing struct {
	repo    *Repo
	session transport.UploadPackSession
	adv     *packp.AdvRefs
	// thin tells that the server can send differences to what is at hand.
	thin bool
}

// list asks the server for its refs.
func (r *Repo) list(ctx context.Context, creds credentials) (*listing, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	endpoint, err := transport.NewEndpoint(r.addr.url)
	if err != nil {
		return nil, err
	}
	var auth transport.AuthMethod
	if creds != (credentials{}) {
		auth = &githttp.BasicAuth{Username: creds.username, Password: creds.password}
	}
	session, err := githttp.NewClientWithOptions(r.client, nil).NewUploadPackSession(endpoint, auth)
	if err != nil {
		return nil, err
	}
	l := &listing{repo: r, session: session}
	l.adv, err = session.AdvertisedReferencesContext(context.WithValue(ctx, thinKey{}, &l.thin))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	if format := l.adv.Capabilities.Get("object-format"); len(format) > 0 && format[0] != "sha1" {
		return nil, fail(ErrNotFound, "repositories with "+printable(format[0], 20)+" object ids are not supported",
			"use a repository in the sha1 format")
	}
	return l, nil
}

// request says what to download.
type request struct {
	wants []plumbing.Hash
	// haves are commits whose trees the mirror holds in full.
	haves []plumbing.Hash
	// history asks for all commits, not for the wanted ones alone.
	history bool
}

// download asks for a pack and hands it to store, which reads it to its end.
func (l *listing) download(ctx context.Context, q request, store func(io.Reader) error) error {
	ctx, stall := newStall(ctx, l.repo.opts.Timeout)
	defer stall.stop()
	resp, err := l.session.UploadPack(ctx, l.upload(q))
	if err != nil {
		return stalled(ctx, refused(err))
	}
	defer resp.Close()
	src := &packReader{src: l.demux(resp), stall: stall, left: l.repo.opts.Limits.PackBytes}
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
func (l *listing) upload(q request) *packp.UploadPackRequest {
	req := packp.NewUploadPackRequestFromCapabilities(l.adv.Capabilities)
	req.Wants = q.wants
	if l.adv.Capabilities.Supports(capability.NoProgress) {
		_ = req.Capabilities.Set(capability.NoProgress) // takes no argument, so cannot fail
	}
	if !q.history && l.adv.Capabilities.Supports(capability.Shallow) {
		_ = req.Capabilities.Set(capability.Shallow)
		req.Depth = packp.DepthCommits(1)
		req.Haves = q.haves
		req.Shallows = q.haves
		if l.thin && len(q.haves) > 0 {
			_ = req.Capabilities.Set(capability.ThinPack)
		}
	}
	return req
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

// packReader reads a pack from the network: it bounds it, keeps the stall timer
// from firing and remembers an error of the connection.
type packReader struct {
	src   io.Reader
	stall *stall
	left  int64
	err   error
}

func (p *packReader) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.src.Read(b)
	if n > 0 {
		p.stall.moved()
	}
	if p.left -= int64(n); p.left < 0 {
		p.err = fail(ErrTooLarge, "the download exceeds the limit of bytes for one pack", "raise the limit or make the repository smaller")
		return 0, p.err
	}
	if err != nil && err != io.EOF {
		p.err = err
	}
	return n, err
}
