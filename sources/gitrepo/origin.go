package gitrepo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// origins are the remotes in use in this process, by what identifies them.
// However many Repos follow one URL with the same credentials, and whichever
// refs, there is one: with one set of connections and one listing for all who
// ask at a time.
var origins = struct {
	sync.Mutex
	byID map[string]*origin
}{byID: map[string]*origin{}}

// origin is one repository on its server, seen with one set of credentials.
type origin struct {
	id      string
	addr    address
	timeout time.Duration
	keys    *keyring
	wire    wire
	// turn admits one listing at a time, so that those who ask during one share
	// the next.
	turn chan struct{}

	mu    sync.Mutex
	users int
	// next has not begun and takes more who ask; current is under way.
	next, current *flight
	// moved is where the last listing was redirected to.
	moved string
}

// flight is one listing that several wait for.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	sharers int
	// begun is zero until it is under way.
	begun   time.Time
	listing *listing
	err     error
}

// openOrigin gives the origin that these options describe, made when nobody has
// it yet. It connects to nothing.
func openOrigin(o Options, addr address) (*origin, error) {
	id := o.access()
	origins.Lock()
	defer origins.Unlock()
	if known := origins.byID[id]; known != nil {
		known.enter()
		return known, nil
	}
	made := &origin{
		id: id, addr: addr, timeout: o.Timeout, users: 1, turn: make(chan struct{}, 1),
	}
	if err := made.connect(o); err != nil {
		return nil, err
	}
	origins.byID[id] = made
	return made, nil
}

// connect makes what speaks to the server and what proves to it who we are.
func (o *origin) connect(opts Options) error {
	if o.addr.scheme == "ssh" {
		o.keys = newKeyring(opts, o.addr, nil)
		o.wire = &sshWire{opts: opts, addr: o.addr}
		return nil
	}
	web := &httpWire{opts: opts, addr: o.addr}
	app, err := newAppTokens(opts, o.addr, web.client)
	if err != nil {
		return err
	}
	o.keys, o.wire = newKeyring(opts, o.addr, app), web
	return nil
}

// access is what identifies the remote and all that is used to reach it.
func (o Options) access() string {
	return o.digest(Options{
		URL: o.URL, Password: o.Password, Proxy: o.Proxy, CAFile: o.CAFile, Timeout: o.Timeout,
	})
}

// Identity tells repositories apart by their URL and by where their credentials
// come from, as a name for the folder of the mirror: what was downloaded with
// one set of credentials is not to be read with another. Passwords and tokens
// themselves have no part in it.
func (o Options) Identity() string {
	base := Options{URL: o.URL}
	if addr, err := parseAddress(o.URL); err == nil {
		base.URL = addr.username + "@" + addr.url
	}
	return o.digest(base)[:16]
}

// digest adds to base what says where credentials come from.
func (o Options) digest(base Options) string {
	base.Username, base.PasswordFile, base.BearerFile = o.Username, o.PasswordFile, o.BearerFile
	base.CertFile, base.KeyFile, base.SSH = o.CertFile, o.KeyFile, o.SSH
	var app GitHubApp
	if o.GitHubApp != nil {
		app = *o.GitHubApp // a pointer's text is its address
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v %#v", base, app))
	return hex.EncodeToString(sum[:])
}

func (o *origin) enter() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users++
}

// leave lets go of the connections with the last user.
func (o *origin) leave() {
	origins.Lock()
	defer origins.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.users--; o.users > 0 {
		return
	}
	delete(origins.byID, o.id)
	o.wire.close()
}

// askedKey is for the context of what was asked at a certain time.
type askedKey struct{}

// asked is one reason to look at repositories. It keeps the listings that
// answered it, for as long as somebody has its context.
type asked struct {
	at time.Time

	mu   sync.Mutex
	kept map[*origin]*listing
}

// Asked says when what is done with this context was asked for: a listing of
// refs that began then or later answers it. Without it each operation counts as
// asked for when it is called, and only a listing that begins after that will
// do. Who looks at many refs of one repository for one reason names the moment
// of that reason, and causes one listing.
func Asked(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, askedKey{}, &asked{at: at, kept: map[*origin]*listing{}})
}

func askedOf(ctx context.Context) *asked {
	if a, ok := ctx.Value(askedKey{}).(*asked); ok {
		return a
	}
	return &asked{}
}

func askedAt(ctx context.Context) time.Time {
	if a := askedOf(ctx); !a.at.IsZero() {
		return a.at
	}
	return time.Now()
}

// held is the listing of an origin that answered before.
func (a *asked) held(o *origin) *listing {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept[o]
}

func (a *asked) hold(o *origin, l *listing) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept != nil && !l.begun.Before(a.at) {
		a.kept[o] = l
	}
}

// list gives a listing that began at or after a moment: one that answered this
// context before, one under way, one about to begin, or a new one. The caller
// releases it.
func (o *origin) list(ctx context.Context, since time.Time) (*listing, error) {
	why := askedOf(ctx)
	o.mu.Lock()
	if l := why.held(o); l != nil && !l.begun.Before(since) {
		l.holders++
		o.mu.Unlock()
		return l, nil
	}
	f := o.boardLocked(ctx, since)
	o.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	l, err := o.land(ctx, f)
	if err == nil {
		why.hold(o, l)
	}
	return l, err
}

// boardLocked gives the flight whose listing will do.
func (o *origin) boardLocked(ctx context.Context, since time.Time) *flight {
	f := o.current
	if f == nil || f.begun.Before(since) {
		f = o.next
	}
	if f == nil {
		f = &flight{done: make(chan struct{})}
		var flying context.Context
		flying, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		o.next = f
		go o.fly(flying, f) // ends before the last sharer leaves
	}
	f.sharers++
	return f
}

// land takes a sharer's part of a flight. The last of those who give up ends it.
func (o *origin) land(ctx context.Context, f *flight) (*listing, error) {
	o.mu.Lock()
	f.sharers--
	select {
	case <-f.done:
		o.mu.Unlock()
		return f.listing, f.err // it counted its sharers as holders
	default:
	}
	deserted := f.sharers == 0
	if deserted {
		o.dropLocked(f)
	}
	o.mu.Unlock()
	if deserted {
		f.cancel()
		<-f.done
	}
	return nil, ctx.Err()
}

// dropLocked lets nobody join a flight any more.
func (o *origin) dropLocked(f *flight) {
	if o.next == f {
		o.next = nil
	}
	if o.current == f {
		o.current = nil
	}
}

// fly lists for all who share the flight.
func (o *origin) fly(ctx context.Context, f *flight) {
	defer f.cancel()
	var l *listing
	var err error
	select {
	case o.turn <- struct{}{}:
		o.begin(f)
		l, err = o.ask(ctx)
		<-o.turn
	case <-ctx.Done():
		err = ctx.Err()
	}
	o.mu.Lock()
	o.dropLocked(f)
	f.listing, f.err = l, err
	deserted := f.sharers == 0
	if l != nil {
		l.begun, l.holders = f.begun, f.sharers
		o.moved = l.moved
	}
	o.mu.Unlock()
	if l != nil && deserted {
		l.closeSession()
	}
	close(f.done)
}

func (o *origin) begin(f *flight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f.begun = time.Now()
	if o.next == f {
		o.next, o.current = nil, f
	}
}

// ask lists the refs now, once more when the server refuses credentials that
// have been replaced meanwhile.
func (o *origin) ask(ctx context.Context) (*listing, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	creds, err := o.keys.read(ctx)
	if err != nil {
		return nil, err
	}
	l, err := o.wire.open(ctx, creds)
	if err != nil && refusesAccess(err) {
		if renewed := o.keys.renewed(ctx, creds); renewed != nil {
			creds = renewed
			l, err = o.wire.open(ctx, creds)
		}
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	l.origin, l.creds = o, creds
	if format := l.adv.Capabilities.Get("object-format"); len(format) > 0 && format[0] != "sha1" {
		l.closeSession()
		return nil, fail(ErrNotFound, "repositories with "+printable(format[0], 20)+" object ids are not supported",
			"use a repository in the sha1 format")
	}
	return l, nil
}

// release gives a listing back. The last holder closes its session.
func (l *listing) release() {
	l.origin.mu.Lock()
	l.holders--
	last := l.holders == 0
	l.origin.mu.Unlock()
	if last {
		l.closeSession()
	}
}

// Ref is a branch, a tag or another ref as a server lists it.
type Ref struct {
	// Name is the full name, such as refs/heads/main.
	Name string
	// Hash is the id of the commit; for an annotated tag that of the commit that
	// it names.
	Hash string
}

// Refs lists what the repository has, in the order of the names. Like every
// listing it is shared with all who ask at the same time, see Asked.
func (r *Repo) Refs(ctx context.Context) ([]Ref, error) {
	l, err := r.origin.list(ctx, askedAt(ctx))
	if err != nil {
		return nil, r.explain(ctx, "list refs of", err)
	}
	defer l.release()
	refs := make([]Ref, 0, len(l.adv.References))
	for name := range l.adv.References {
		if t, ok := l.named(name); ok {
			refs = append(refs, Ref{Name: name, Hash: t.commit.String()})
		}
	}
	slices.SortFunc(refs, func(a, b Ref) int { return strings.Compare(a.Name, b.Name) })
	return refs, nil
}

// At follows another ref of the same repository, over the same mirror and
// connections, in the form of Options.Ref. The caller closes it. It may be
// called as long as r is open.
func (r *Repo) At(ref string) *Repo {
	o := r.opts
	o.Ref, o.Semver = strings.TrimSpace(ref), ""
	r.origin.enter()
	r.mirror.enter()
	return &Repo{opts: o, pick: selector{ref: o.Ref}, origin: r.origin, mirror: r.mirror}
}

// Moved is where the server redirects to, empty when it does not. The source's
// URL should be changed to it.
func (r *Repo) Moved() string {
	r.origin.mu.Lock()
	defer r.origin.mu.Unlock()
	return r.origin.moved
}
