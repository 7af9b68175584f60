package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Submodules says which submodules are read. They are fetched when a file in
// them is first asked for, at the commit that is recorded, and read like folders.
type Submodules string

// What Submodules can be.
const (
	// SubmodulesHost reads those on the host of the repository itself. It is the
	// default: a repository must not make Holdfast send requests elsewhere.
	SubmodulesHost Submodules = "host"
	// SubmodulesAny reads those on other hosts too, without credentials.
	SubmodulesAny Submodules = "any"
	// SubmodulesOff reads none.
	SubmodulesOff Submodules = "off"
)

func (s Submodules) check() error {
	switch s {
	case "", SubmodulesHost, SubmodulesAny, SubmodulesOff:
		return nil
	}
	return fmt.Errorf("submodules %q is not known: there are host, any and off", printable(string(s), 40))
}

const (
	// maxNesting bounds submodules in submodules, and maxModules all of a
	// snapshot.
	maxNesting = 4
	maxModules = 64
	// maxModulesFile bounds the file .gitmodules.
	maxModulesFile = 1 << 20
	modulesFile    = ".gitmodules"
)

// module is a repository that is read as part of a snapshot: the snapshot's own,
// or a submodule.
type module struct {
	repo *Repo
	view *view
	// depth counts the modules above.
	depth int
}

// modules are the submodules that a snapshot has entered.
type modules struct {
	root *Repo

	mu     sync.Mutex
	open   map[moduleID]*entering
	closed bool
}

// moduleID is where a submodule is: its path in a repository.
type moduleID struct {
	in   *module
	path string
}

// entering is a submodule that is being fetched, or was.
type entering struct {
	done   chan struct{}
	module *module
	err    error
}

var errClosed = errors.New("the snapshot is closed")

func newModules(root *Repo) *modules {
	return &modules{root: root, open: map[moduleID]*entering{}}
}

func (m *modules) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, e := range m.open {
		select {
		case <-e.done:
			if e.module != nil {
				e.module.view.release()
			}
		default: // who fetches it sees that the snapshot is closed
		}
	}
	clear(m.open)
}

// enter gives the submodule at a path, fetched once for all who ask. What went
// wrong is tried again by the next who asks.
func (m *modules) enter(at handle) (*module, error) {
	id := moduleID{at.in, at.path}
	m.mu.Lock()
	e := m.open[id]
	mine := e == nil
	switch {
	case m.closed:
		m.mu.Unlock()
		return nil, errClosed
	case mine && len(m.open) >= maxModules:
		m.mu.Unlock()
		return nil, fail(ErrTooLarge, fmt.Sprintf("there are more than %d submodules", maxModules), "")
	case mine:
		e = &entering{done: make(chan struct{})}
		m.open[id] = e
	}
	m.mu.Unlock()
	if !mine {
		<-e.done
		return e.module, e.err
	}
	e.module, e.err = m.fetch(at)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(e.done)
	switch {
	case e.err != nil:
		delete(m.open, id)
	case m.closed:
		e.module.view.release()
		return nil, errClosed
	}
	return e.module, e.err
}

func (m *modules) fetch(at handle) (*module, error) {
	repo := at.in.repo
	if repo.opts.Submodules == SubmodulesOff {
		return nil, errSubmodule
	}
	if at.in.depth >= maxNesting {
		return nil, fail(ErrTooLarge, fmt.Sprintf("submodules are nested more than %d deep", maxNesting), "")
	}
	where, err := at.moduleURL()
	if err != nil {
		return nil, err
	}
	child, err := m.root.children.open(m.root, repo, where)
	if err != nil {
		return nil, err
	}
	// Whoever reads a file waits for this; there is no context to come with it.
	ctx, cancel := context.WithTimeout(context.Background(), 10*repo.opts.Timeout)
	defer cancel()
	v, err := child.commitView(ctx, sources.Revision{ID: at.hash.String()})
	if err != nil {
		return nil, child.explain(ctx, "fetch the submodule", err)
	}
	return &module{repo: child, view: v, depth: at.in.depth + 1}, nil
}

// moduleURL finds where a submodule's repository is.
func (h handle) moduleURL() (string, error) {
	objects := h.in.view.objects
	d, err := objects.dir(h.in.view.root)
	if err != nil {
		return "", h.noted(err)
	}
	e, ok := d.lookup(modulesFile)
	if !ok || e.kind != kindFile && e.kind != kindExecutable {
		return "", fmt.Errorf("it is a submodule, and there is no file %s that says where its repository is", modulesFile)
	}
	content, err := objects.read(e.hash, plumbing.BlobObject, maxModulesFile)
	if err != nil {
		return "", h.noted(err)
	}
	all, err := parseModules(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", modulesFile, err)
	}
	for _, m := range all {
		if path.Clean(m.path) == h.path {
			return resolveURL(h.in.repo.opts.URL, m.url)
		}
	}
	return "", fmt.Errorf("it is a submodule, and %s does not say where its repository is", modulesFile)
}

// resolveURL makes a submodule's URL absolute: one that begins with ./ or ../ is
// relative to that of the repository it is in.
func resolveURL(parent, relative string) (string, error) {
	if !strings.HasPrefix(relative, "./") && !strings.HasPrefix(relative, "../") {
		return relative, nil
	}
	base := strings.TrimRight(parent, "/")
	root := strings.Index(base, "://")
	if root >= 0 {
		root += len("://")
		slash := strings.Index(base[root:], "/")
		if slash < 0 {
			return "", errors.New("the relative url of the submodule leads out of the server")
		}
		root += slash
	} else {
		host, _, ok := cutSCP(base)
		if !ok {
			return "", errors.New("the relative url of the submodule has nothing to begin at")
		}
		root = len(host) + 1
	}
	prefix, dirs := base[:root], strings.Split(strings.TrimPrefix(base[root:], "/"), "/")
	slash := strings.HasPrefix(base[root:], "/")
	for part := range strings.SplitSeq(strings.TrimRight(relative, "/"), "/") {
		switch part {
		case ".", "":
		case "..":
			if len(dirs) == 0 {
				return "", errors.New("the relative url of the submodule leads out of the server")
			}
			dirs = dirs[:len(dirs)-1]
		default:
			dirs = append(dirs, part)
		}
	}
	if slash {
		prefix += "/"
	}
	return prefix + strings.Join(dirs, "/"), nil
}

// children are the repositories of submodules, open as long as the source is, or
// any snapshot of it.
type children struct {
	mu        sync.Mutex
	byURL     map[string]*Repo
	closed    bool
	snapshots int
}

func (c *children) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots++
}

func (c *children) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots--
	c.closeUnusedLocked()
}

func (c *children) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.closeUnusedLocked()
}

func (c *children) closeUnusedLocked() {
	if !c.closed || c.snapshots > 0 {
		return
	}
	for _, r := range c.byURL {
		r.Close()
	}
	clear(c.byURL)
}

// open opens a submodule's repository on behalf of the one that names it.
func (c *children) open(root, parent *Repo, where string) (*Repo, error) {
	o, err := parent.childOptions(where)
	if err != nil {
		return nil, err
	}
	id := o.Identity()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && c.snapshots == 0 {
		return nil, errors.New("the source is closed")
	}
	if known := c.byURL[id]; known != nil {
		return known, nil
	}
	o.Dir = filepath.Join(root.mirror.dir, "modules", id)
	child, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("open the submodule's repository: %w", err)
	}
	if c.byURL == nil {
		c.byURL = map[string]*Repo{}
	}
	c.byURL[id] = child
	return child, nil
}

// childOptions are those of a submodule. Credentials and whatever else proves who
// we are go along only to the same host, by the same protocol.
func (r *Repo) childOptions(where string) (Options, error) {
	addr, err := parseAddress(where)
	if err != nil {
		return Options{}, fmt.Errorf("the submodule's url cannot be used: %w", err)
	}
	o := Options{
		Name: r.opts.Name, URL: where, CAFile: r.opts.CAFile, Proxy: r.opts.Proxy, Timeout: r.opts.Timeout,
		Limits: r.opts.Limits, Submodules: r.opts.Submodules, LFS: r.opts.LFS, Memory: r.opts.Memory,
	}
	o.SSH.KnownHostsFile = r.opts.SSH.KnownHostsFile
	if sameHost(addr, r.origin.addr) {
		o.Username, o.Password, o.PasswordFile = r.opts.Username, r.opts.Password, r.opts.PasswordFile
		o.BearerFile, o.GitHubApp, o.SSH = r.opts.BearerFile, r.opts.GitHubApp, r.opts.SSH
		o.CertFile, o.KeyFile = r.opts.CertFile, r.opts.KeyFile
		if r.keysAnonymous() && addr.username == "" {
			o.Username, o.Password = r.origin.addr.username, r.origin.addr.password
		}
		return o, nil
	}
	switch {
	case r.opts.Submodules != SubmodulesAny:
		return Options{}, fmt.Errorf("the submodule's repository %s is on another host, or reached by another protocol (set submodules: any to read those too)", addr.url)
	case addr.scheme == "ssh":
		// Where no keys are given, those of the user would be shown to a stranger.
		return Options{}, fmt.Errorf("the submodule's repository %s is reached over ssh, and keys are not sent to another host (use an https url)", addr.url)
	}
	return o, nil
}

// keysAnonymous tells whether credentials, if any, come from the URL.
func (r *Repo) keysAnonymous() bool {
	o := r.opts
	return o.Username == "" && o.Password == "" && o.PasswordFile == "" && o.BearerFile == "" && o.GitHubApp == nil
}

// sameHost compares where two addresses lead, port and protocol included.
func sameHost(a, b address) bool {
	return a.scheme == b.scheme && strings.EqualFold(hostOf(a), hostOf(b))
}

func hostOf(a address) string {
	if a.scheme == "ssh" {
		return a.host
	}
	u, err := url.Parse(a.url)
	if err != nil {
		return ""
	}
	return u.Host
}
