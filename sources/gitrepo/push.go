package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/holdfast-gitops/holdfast/sources"
)

var (
	// ErrPushRefused means that the server did not take a branch.
	ErrPushRefused = errors.New("push refused")
	// ErrBranchExists means that there is a branch of that name already.
	ErrBranchExists = errors.New("branch exists")
	// ErrHeadMoved means that what is followed is at another commit by now.
	ErrHeadMoved = errors.New("head moved")
)

// Proposal is a commit that is to be pushed as a new branch.
type Proposal struct {
	// Base is the commit that it builds on, which has to be what is followed now.
	Base sources.Revision
	// Branch is the new branch's short name.
	Branch string
	// Files are the new contents of files that the base has.
	Files map[string][]byte
	// Author is a name; Message is the commit's.
	Author, Message string
	At              time.Time
}

// Committer is who commits what Holdfast pushes.
const (
	Committer      = "Holdfast"
	committerEmail = "holdfast@localhost"
)

// Push makes a commit on top of the base and pushes it as a new branch, with the
// credentials of o, which has the same URL. It forces nothing: where the branch
// exists, or what is followed has moved, it fails. All is made in memory.
func (r *Repo) Push(ctx context.Context, o Options, p Proposal) (commit string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	with := r.as(o)
	if with == nil {
		return "", fail(ErrAuth, "the credentials for pushing cannot be used", "")
	}
	defer with.origin.leave()
	id, err := r.push(ctx, with, p)
	if err != nil {
		return "", with.explain(ctx, "push to", err)
	}
	return id.String(), nil
}

// as is the repository as those see it who have other credentials.
func (r *Repo) as(o Options) *Repo {
	o.Timeout = r.opts.Timeout
	if o.GitHubApp != nil {
		app := *o.GitHubApp
		app.Write = true
		o.GitHubApp = &app
	}
	addr, err := parseAddress(o.URL)
	if err != nil || addr.url != r.origin.addr.url {
		return nil
	}
	origin, err := openOrigin(o, addr)
	if err != nil {
		return nil
	}
	return &Repo{opts: o, pick: r.pick, origin: origin, mirror: r.mirror}
}

func (r *Repo) push(ctx context.Context, with *Repo, p Proposal) (plumbing.Hash, error) {
	base, ok := pinned(p.Base.ID)
	name := plumbing.NewBranchReferenceName(p.Branch)
	switch {
	case !ok:
		return base, fail(ErrRefNotFound, "what is in force is no commit", "")
	case name.Validate() != nil || strings.HasPrefix(p.Branch, "-") || strings.HasPrefix(p.Branch, "refs/"):
		return base, fail(ErrPushRefused, fmt.Sprintf("%q cannot be the name of a branch", printable(p.Branch, 100)), "")
	}
	made, id, err := r.build(base, p)
	if err != nil {
		return id, err
	}
	creds, err := with.origin.keys.read(ctx)
	if err != nil {
		return id, err
	}
	to, err := with.origin.receiver(ctx, creds)
	if err != nil {
		return id, err
	}
	defer to.close()
	if err := with.mayPush(to.adv, name, p); err != nil {
		return id, err
	}
	return id, to.send(ctx, name, id, made)
}

// mayPush looks at what the server says that it has now.
func (r *Repo) mayPush(adv *packp.AdvRefs, name plumbing.ReferenceName, p Proposal) error {
	if _, exists := adv.References[name.String()]; exists {
		return fail(ErrBranchExists, "there is a branch "+printable(p.Branch, 100)+" already", "name another, or delete it")
	}
	if name.String() == p.Base.Ref {
		return fail(ErrBranchExists, "that is the branch that is followed", "name another")
	}
	if !strings.HasPrefix(p.Base.Ref, "refs/heads/") {
		return nil // a tag or a commit stays where it is
	}
	if at, ok := adv.References[p.Base.Ref]; !ok || at.String() != p.Base.ID {
		return fail(ErrHeadMoved, plumbing.ReferenceName(p.Base.Ref).Short()+" is not at "+p.Base.Short()+" any more",
			"try again when the newest commit was applied")
	}
	return nil
}

// build makes the commit with what it needs beyond the base.
func (r *Repo) build(base plumbing.Hash, p Proposal) (*memory.Storage, plumbing.Hash, error) {
	v, err := r.mirror.lease(demand{target: target{object: base, commit: base}, limits: r.opts.Limits})
	if err != nil {
		return nil, base, err
	}
	if v == nil {
		return nil, base, fail(ErrRefNotFound, "the commit in force is not in the mirror any more", "try again")
	}
	defer v.release()
	made := memory.NewStorage()
	files := map[string]plumbing.Hash{}
	for name, content := range p.Files {
		if files[name], err = store(made, blob(content)); err != nil {
			return nil, base, err
		}
	}
	root, err := rebuild(made, v.objects, v.root, ".", files)
	if err != nil {
		return nil, base, err
	}
	if root == v.root {
		return nil, base, fail(ErrPushRefused, "the files are like this already", "")
	}
	by := object.Signature{Name: Committer, Email: committerEmail, When: p.At.UTC()}
	author := object.Signature{Name: signatureName(p.Author), Email: committerEmail, When: p.At.UTC()}
	id, err := store(made, &object.Commit{Author: author, Committer: by, Message: p.Message, TreeHash: root, ParentHashes: []plumbing.Hash{base}})
	return made, id, err
}

// signatureName leaves out what has a meaning in the lines of a commit.
func signatureName(name string) string {
	name = strings.Map(func(c rune) rune {
		if strings.ContainsRune("<>", c) {
			return ' '
		}
		return c
	}, printable(name, 100))
	if name = strings.Trim(name, " .,:;\"'"); name == "" {
		return Committer
	}
	return name
}

// rebuild writes the folders anew that lead to changed files, by their full
// names. The rest of them stays as it is.
func rebuild(made *memory.Storage, from *objects, folder plumbing.Hash, at string, files map[string]plumbing.Hash) (plumbing.Hash, error) {
	content, err := from.read(folder, plumbing.TreeObject, maxTreeBytes)
	if err != nil {
		return folder, err
	}
	raw := &plumbing.MemoryObject{}
	raw.SetType(plumbing.TreeObject)
	if _, err := raw.Write(content); err != nil {
		return folder, err
	}
	t := &object.Tree{}
	if err := t.Decode(raw); err != nil {
		return folder, err
	}
	below := map[string]bool{}
	for name := range files {
		rest := name
		if at != "." {
			var inside bool
			if rest, inside = strings.CutPrefix(name, at+"/"); !inside {
				continue
			}
		}
		first, _, _ := strings.Cut(rest, "/")
		below[first] = true
	}
	for name := range below {
		full := path.Join(at, name)
		i := slices.IndexFunc(t.Entries, func(e object.TreeEntry) bool { return e.Name == name })
		hash, isFile := files[full]
		switch {
		case i >= 0 && isFile && isPointer(from, t.Entries[i].Hash):
			return folder, fail(ErrPushRefused, printable(full, 200)+" is kept by Git LFS, which nothing is pushed to", "change it by hand")
		case i >= 0 && isFile && (t.Entries[i].Mode == filemode.Regular || t.Entries[i].Mode == filemode.Executable):
		case i >= 0 && !isFile && t.Entries[i].Mode == filemode.Dir:
			if hash, err = rebuild(made, from, t.Entries[i].Hash, full, files); err != nil {
				return folder, err
			}
		default:
			return folder, fail(ErrPushRefused, printable(full, 200)+" is no file of this repository that can be changed", "change it by hand")
		}
		t.Entries[i].Hash = hash
	}
	return store(made, t)
}

func isPointer(from *objects, file plumbing.Hash) bool {
	content, err := from.read(file, plumbing.BlobObject, maxPointer)
	return err == nil && isLFSPointer(content) // what is larger is none
}

// encoder is an object of go-git.
type encoder interface {
	Encode(plumbing.EncodedObject) error
}

type blob []byte

// Encode writes a file.
func (b blob) Encode(o plumbing.EncodedObject) error {
	o.SetType(plumbing.BlobObject)
	w, err := o.Writer()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

func store(made *memory.Storage, e encoder) (plumbing.Hash, error) {
	o := made.NewEncodedObject()
	if err := e.Encode(o); err != nil {
		return plumbing.ZeroHash, err
	}
	return made.SetEncodedObject(o)
}

// receiver is a conversation with a server's receive-pack.
type receiver struct {
	adv   *packp.AdvRefs
	web   transport.ReceivePackSession
	shell *sshSession
}

func (o *origin) receiver(ctx context.Context, creds *credentials) (*receiver, error) {
	switch w := o.wire.(type) {
	case *httpWire:
		client, err := w.client()
		if err != nil {
			return nil, err
		}
		endpoint, err := transport.NewEndpoint(w.addr.url)
		if err != nil {
			return nil, err
		}
		s, err := githttp.NewClientWithOptions(client, nil).NewReceivePackSession(endpoint, creds.auth())
		if err != nil {
			return nil, err
		}
		adv, err := s.AdvertisedReferencesContext(ctx)
		if errors.Is(err, transport.ErrAuthorizationFailed) {
			return nil, cannotWrite()
		}
		if err != nil {
			return nil, err
		}
		return &receiver{adv: adv, web: s}, nil
	case *sshWire:
		s, err := w.start(ctx, creds, "git-receive-pack")
		if err != nil {
			return nil, err
		}
		done := s.within(ctx)
		adv, err := s.advertised()
		done()
		if err != nil {
			s.close()
			return nil, err
		}
		return &receiver{adv: adv, shell: s}, nil
	}
	return nil, cannotWrite()
}

func cannotWrite() *failure {
	return fail(ErrPushRefused, "the server forbids pushing", "give the account write access to the repository, or name others under push.credentials")
}

func (t *receiver) close() {
	if t.shell != nil {
		t.shell.close()
	}
}

// send asks for the branch, sends what it needs and reads what became of it.
func (t *receiver) send(ctx context.Context, name plumbing.ReferenceName, id plumbing.Hash, made *memory.Storage) error {
	var ids []plumbing.Hash
	for h := range made.Objects {
		ids = append(ids, h)
	}
	pack := &bytes.Buffer{}
	if _, err := packfile.NewEncoder(pack, made, false).Encode(ids, 0); err != nil {
		return err
	}
	req := packp.NewReferenceUpdateRequestFromCapabilities(t.adv.Capabilities)
	said := &excuse{}
	if t.adv.Capabilities.Supports(capability.Sideband64k) {
		_ = req.Capabilities.Set(capability.Sideband64k) // takes no argument, so cannot fail
		req.Progress = said
	}
	req.Commands = []*packp.Command{{Name: name, Old: plumbing.ZeroHash, New: id}}
	req.Packfile = io.NopCloser(pack)
	var report *packp.ReportStatus
	var err error
	if t.web != nil {
		report, err = t.web.ReceivePack(ctx, req)
	} else {
		report, err = t.exchange(ctx, req)
	}
	var unexpected *plumbing.UnexpectedError
	switch {
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return cannotWrite()
	case ctx.Err() != nil || report == nil && err != nil && (isFailure(err) || errors.As(err, &unexpected)):
		return err
	case report == nil && err == nil:
		if t.adv.Capabilities.Supports(capability.ReportStatus) {
			return fail(ErrUnreachable, "the server did not say what became of the branch", "look for it before trying again")
		}
		return nil
	case err != nil:
		text := "the server does not take the branch: " + printable(err.Error(), 300)
		if words := said.String(); words != "" {
			text += "; it says " + quote(words)
		}
		return fail(ErrPushRefused, text, "")
	}
	return nil
}

// exchange speaks with the program of an SSH server.
func (t *receiver) exchange(ctx context.Context, req *packp.ReferenceUpdateRequest) (*packp.ReportStatus, error) {
	s := t.shell
	s.asked = true
	defer s.within(ctx)()
	w := bufio.NewWriterSize(s.in, 32<<10)
	err := req.Encode(w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, s.ended()
		}
		return nil, err
	}
	var out io.Reader = io.LimitReader(s.out, maxListing)
	if req.Progress != nil {
		d := sideband.NewDemuxer(sideband.Sideband64k, out)
		d.Progress = req.Progress
		out = d
	}
	report := packp.NewReportStatus()
	if err := report.Decode(out); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pktline.ErrInvalidPktLen) {
			return nil, s.ended()
		}
		return report, err
	}
	return report, report.Error()
}
