package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Place is a line of a file, counted from 1.
type Place struct {
	Path string
	Line int
	// Find, when not nil, says by the file's content which line is meant; 0 is none.
	// It must not keep the content.
	Find func(content []byte) int
}

// Line is who wrote a line.
type Line struct {
	// Number is the line that was looked up; 0 when there is none.
	Number int
	// Revision is the commit that last changed the line. Where that cannot be said
	// it is the commit that was asked about, and Unsure says why.
	Revision sources.Revision
	Unsure   string
}

// blameSteps are how far back history is fetched, in steps, and how many bytes
// each may take. What is fetched is held in memory while it is looked at.
var blameSteps = []struct {
	depth int
	bytes int64
}{{20, 2 << 20}, {maxBlame, 6 << 20}}

const (
	// maxBlame bounds the commits that a line is followed through.
	maxBlame = 200
	// maxBlameFile bounds the file that a line is in.
	maxBlameFile = 1 << 20
	// blameTime bounds one look-up.
	blameTime = 10 * time.Second
)

// Why a line's commit is not known.
const (
	unsureFar     = "its history goes back further than is looked at"
	unsureServer  = "the server does not give the history"
	unsureNoFile  = "the commit has no such file or line"
	unsureChange  = "a change of the file is too large to compare"
	unsureTime    = "looking it up took too long"
	unsureNothing = "the commit is not here any more"
)

// Blame finds the commits that last changed lines of a revision, which is the full
// id of a commit that was fetched before. It follows each line back through the
// parents that have it, first among what the mirror has, then in the history just
// before the revision, which it asks the server for: only what differs from what
// is here is sent. A file that had another name counts as new. Bounds and
// failures make an answer unsure; they are no error.
func (r *Repo) Blame(ctx context.Context, revision string, places []Place) ([]Line, error) {
	now, ok := pinned(revision)
	if !ok {
		return nil, fail(ErrRefNotFound, fmt.Sprintf("%q is not the id of a commit", printable(revision, 80)), "give all 40 digits")
	}
	ctx, cancel := context.WithTimeout(ctx, blameTime)
	defer cancel()
	v, err := r.mirror.lease(demand{target: target{object: now, commit: now}, limits: r.opts.Limits})
	if err != nil {
		return nil, r.explain(ctx, "look into", err)
	}
	if v == nil {
		out := make([]Line, len(places))
		for i := range out {
			out[i] = Line{Number: places[i].Line, Revision: sources.Revision{ID: revision}, Unsure: unsureNothing}
		}
		return out, nil
	}
	defer v.release()
	traces := make([]*trace, len(places))
	for i, p := range places {
		traces[i] = begin(v.objects, now, v.root, p)
	}
	r.follow(ctx, v, now, traces)
	out := make([]Line, len(places))
	for i, t := range traces {
		out[i] = Line{Number: t.asked, Revision: v.revision, Unsure: t.unsure}
		if t.done && t.unsure == "" {
			out[i].Revision = t.found
		}
	}
	return out, nil
}

// follow traces the lines through what is here, and then through more and more of
// what the server has.
func (r *Repo) follow(ctx context.Context, v *view, now plumbing.Hash, traces []*trace) {
	all := newObjects()
	all.packs.Store(v.objects.packs.Load())
	if advance(ctx, all, traces) {
		return
	}
	why := r.fetchBehind(ctx, all, now, traces)
	if why == "" {
		why = unsureFar
	}
	for _, t := range traces {
		if !t.done {
			t.give(why)
		}
	}
}

// fetchBehind asks the server for what led to a commit until all lines are found,
// and says why they are not.
func (r *Repo) fetchBehind(ctx context.Context, all *objects, now plumbing.Hash, traces []*trace) (why string) {
	l, err := r.origin.list(ctx, askedAt(ctx))
	if err != nil {
		return unsureBecause(ctx, err)
	}
	defer l.release()
	if !l.adv.Capabilities.Supports(capability.Shallow) {
		return unsureServer
	}
	largest := int64(64 << 10)
	for _, t := range traces {
		largest = max(largest, 2*t.size)
	}
	for _, step := range blameSteps {
		p, err := r.fetchHistory(ctx, l, all, request{
			wants: []plumbing.Hash{now}, behind: step.depth, largest: largest, limit: min(step.bytes, r.opts.Limits.PackBytes),
		})
		if err != nil {
			return unsureBecause(ctx, err)
		}
		if p == nil {
			return unsureServer
		}
		defer p.file.Close() // all of them, at the end
		if advance(ctx, all, traces) {
			return ""
		}
		if ctx.Err() != nil {
			return unsureTime
		}
	}
	return unsureFar
}

func (r *Repo) fetchHistory(ctx context.Context, l *listing, all *objects, q request) (*pack, error) {
	var got *pack
	err := l.download(ctx, q, func(src io.Reader) error {
		p, err := storePack("", src, min(r.opts.Limits.ObjectBytes, 2*q.limit), all)
		if err == nil && p != nil {
			all.add(p)
			got = p
		}
		return err
	})
	return got, err
}

func unsureBecause(ctx context.Context, err error) string {
	switch {
	case ctx.Err() != nil:
		return unsureTime
	case errors.Is(err, ErrTooLarge):
		return "its history is larger than what is fetched for this"
	case errors.Is(err, errMoved):
		return unsureServer
	}
	return "the server cannot be asked now"
}

// behindOf asks for the commits behind the wanted ones, which are here with all
// their files. Named as known and as shallow they make the server send what
// differs from them, commit by commit, without files that are too large.
func (l *listing) behindOf(req *packp.UploadPackRequest, q request) {
	// None of these takes a wrong argument, so none can fail.
	_ = req.Capabilities.Set(capability.Shallow)
	req.Depth = packp.DepthCommits(q.behind)
	req.Haves, req.Shallows = q.wants, q.wants
	if l.offers.thin {
		_ = req.Capabilities.Set(capability.ThinPack)
	}
	if l.adv.Capabilities.Supports(capability.Filter) {
		_ = req.Capabilities.Set(capability.Filter)
		req.Filter = packp.FilterBlobLimit(uint64(q.largest), packp.BlobLimitPrefixNone)
	}
}

// trace is a line on its way back.
type trace struct {
	path string
	// asked is the line in the revision that was asked about, at the index where it
	// is in commit, whose file blob is.
	asked, at int
	commit    plumbing.Hash
	blob      plumbing.Hash
	size      int64
	steps     int

	done   bool
	found  sources.Revision
	unsure string
}

// begin finds the file and the line.
func begin(o *objects, commit, root plumbing.Hash, p Place) *trace {
	t := &trace{path: p.Path, asked: p.Line, commit: commit}
	blob, ok, err := fileAt(o, root, p.Path)
	if err != nil || !ok {
		t.give(unsureNoFile)
		return t
	}
	content, err := o.read(blob, plumbing.BlobObject, maxBlameFile)
	switch {
	case errors.Is(err, ErrTooLarge):
		t.give(unsureChange)
		return t
	case err != nil:
		t.give(unsureNothing)
		return t
	}
	if p.Find != nil {
		t.asked = p.Find(content)
	}
	t.blob, t.at, t.size = blob, t.asked-1, int64(len(content))
	if t.at < 0 || t.at >= len(splitLines(content)) {
		t.give(unsureNoFile)
	}
	return t
}

func (t *trace) give(why string) { t.done, t.unsure = true, why }

// advance moves all lines as far back as the objects lead, and reports whether
// none is left.
func advance(ctx context.Context, o *objects, traces []*trace) bool {
	left := false
	for _, t := range traces {
		for !t.done && ctx.Err() == nil && t.back(o) {
		}
		left = left || !t.done
	}
	return !left
}

// back goes to the parent that the line comes from. It reports whether it got
// anywhere.
func (t *trace) back(o *objects) bool {
	if t.steps++; t.steps > maxBlame {
		t.give(unsureFar)
		return true
	}
	c := readCommit(o, t.commit)
	if c == nil {
		return false
	}
	next, gap, err := t.among(o, c)
	switch {
	case errors.Is(err, errTooDifferent):
		t.give(unsureChange)
	case next != nil:
		t.commit, t.blob, t.at = next.commit, next.blob, next.at
	case gap:
		t.steps--
		return false
	default:
		t.found, t.done = revisionOf(t.commit, c), true
	}
	return true
}

// among looks for the line in the parents of a commit: first for one that has the
// same file, then for one whose file has the line. Gap tells that some parent is
// not here to be looked at.
func (t *trace) among(o *objects, c *object.Commit) (next *trace, gap bool, err error) {
	var others []trace
	for _, id := range c.ParentHashes {
		parent := readCommit(o, id)
		if parent == nil {
			gap = true
			continue
		}
		blob, ok, err := fileAt(o, parent.TreeHash, t.path)
		switch {
		case err != nil:
			gap = true
		case ok && blob == t.blob:
			return &trace{commit: id, blob: blob, at: t.at}, false, nil
		case ok:
			others = append(others, trace{commit: id, blob: blob})
		}
	}
	for i := range others {
		at, ok, err := t.within(o, others[i].blob)
		switch {
		case errors.Is(err, errTooDifferent):
			return nil, gap, err
		case err != nil:
			gap = true
		case ok:
			others[i].at = at
			return &others[i], gap, nil
		}
	}
	return nil, gap, nil
}

// within finds the line in another version of the file.
func (t *trace) within(o *objects, older plumbing.Hash) (at int, ok bool, err error) {
	var versions [2][][]byte
	for i, h := range []plumbing.Hash{older, t.blob} {
		content, err := o.read(h, plumbing.BlobObject, maxBlameFile)
		if errors.Is(err, ErrTooLarge) {
			return 0, false, errTooDifferent
		}
		if err != nil {
			return 0, false, err
		}
		versions[i] = splitLines(content)
	}
	return lineBefore(versions[0], versions[1], t.at)
}

// fileAt finds a plain file in a tree. What is no plain file there does not count.
func fileAt(o *objects, root plumbing.Hash, name string) (plumbing.Hash, bool, error) {
	if !fs.ValidPath(name) || name == "." {
		return plumbing.ZeroHash, false, nil
	}
	at := entry{kind: kindDir, hash: root}
	for part := range strings.SplitSeq(name, "/") {
		if at.kind != kindDir {
			return plumbing.ZeroHash, false, nil
		}
		d, err := o.dir(at.hash)
		if err != nil {
			return plumbing.ZeroHash, false, err
		}
		var ok bool
		if at, ok = d.lookup(part); !ok {
			return plumbing.ZeroHash, false, nil
		}
	}
	return at.hash, at.kind == kindFile || at.kind == kindExecutable, nil
}

func splitLines(content []byte) [][]byte {
	lines := bytes.SplitAfter(content, []byte("\n"))
	if n := len(lines); len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	return lines
}
