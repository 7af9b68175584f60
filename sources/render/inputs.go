package render

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/redact"
	"github.com/holdfast-gitops/holdfast/sources"
)

// InputKind says what a render learnt of a path.
type InputKind string

// The kinds of inputs: the content of a file or of a whole folder, that a folder
// is there, the names in it, and that nothing is there.
const (
	InputContent InputKind = "content"
	InputFolder  InputKind = "folder"
	InputListing InputKind = "listing"
	InputAbsent  InputKind = "absent"
)

// Input is one thing that a render depends on.
type Input struct {
	Path string    `json:"path"`
	Kind InputKind `json:"kind"`
	// ID is the content id, or a digest of the names.
	ID string `json:"id,omitempty"`
}

// Inputs is everything that a render depends on, sorted.
type Inputs []Input

// Hold says whether all inputs are in a tree as they were. An error says that
// the tree cannot tell.
func (in Inputs) Hold(tree sources.Tree) (bool, error) {
	for _, i := range in {
		same, err := i.holds(tree)
		if err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (i Input) holds(tree sources.Tree) (bool, error) {
	if i.Kind == InputContent {
		id, err := tree.ContentID(i.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return id == i.ID, err
	}
	info, err := tree.Stat(i.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return i.Kind == InputAbsent, nil
	}
	if err != nil || i.Kind == InputAbsent || !info.IsDir() {
		return false, err
	}
	if i.Kind == InputFolder {
		return true, nil
	}
	_, id, err := listing(tree, i.Path)
	return id == i.ID, err
}

// listing is the names in a folder and a digest of them.
func listing(tree sources.Tree, dir string) (names []string, id string, err error) {
	entries, err := tree.ReadDir(dir)
	if err != nil {
		return nil, "", err
	}
	h := sha256.New()
	for _, e := range entries {
		names = append(names, e.Name())
		fmt.Fprintf(h, "%s %s\x00", e.Type(), e.Name())
	}
	return names, hex.EncodeToString(h.Sum(nil)), nil
}

// what a path is.
type pathKind int

const (
	absent pathKind = iota
	file
	folder
)

// maxReads bounds the paths of one render.
const maxReads = 100_000

// readsTooMuch is the problem of a render that goes over a bound at a path.
func readsTooMuch(name string) error {
	return sources.Problem{File: name, Message: "is more than one render may read", Hint: "split the environment"}
}

// recorder is a tree that writes down what is asked of it. It is used by one
// goroutine.
type recorder struct {
	tree      sources.Tree
	maxFile   int64
	left      int64
	seen      map[Input]bool
	kinds     map[string]pathKind
	readsLeft int

	// ctx bounds decryption. A recorder lives as long as one render.
	ctx       context.Context
	decrypter Decrypter
	redactor  *redact.Redactor
	// secrets are the values that this render decrypted.
	secrets redact.Redactor
	// capabilities are those that a chart saw.
	capabilities *Capabilities
}

func newRecorder(tree sources.Tree, o Options) *recorder {
	return &recorder{
		tree: tree, maxFile: o.Manifest.MaxFileBytes, left: o.ReadBytes,
		seen: map[Input]bool{}, kinds: map[string]pathKind{}, readsLeft: maxReads,
		ctx: context.Background(), redactor: o.Redactor,
	}
}

func (r *recorder) note(i Input) { r.seen[i] = true }

// inputs is all that was asked, sorted.
func (r *recorder) inputs() Inputs {
	in := make(Inputs, 0, len(r.seen))
	for i := range r.seen {
		in = append(in, i)
	}
	slices.SortFunc(in, func(a, b Input) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return in
}

// stat says what is at a path.
func (r *recorder) stat(name string) (pathKind, error) {
	if !fs.ValidPath(name) {
		return absent, nil
	}
	if kind, known := r.kinds[name]; known {
		return kind, nil
	}
	if r.readsLeft--; r.readsLeft < 0 {
		return absent, readsTooMuch(name)
	}
	info, err := r.tree.Stat(name)
	kind := file
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = absent
		r.note(Input{Path: name, Kind: InputAbsent})
	case err != nil:
		return absent, fmt.Errorf("stat %s: %w", name, err)
	case info.IsDir():
		kind = folder
		r.note(Input{Path: name, Kind: InputFolder})
	default:
		// That it is a file is noted with its content: one that is never read
		// must still turn up when it becomes a folder.
		if err := r.content(name); err != nil {
			return absent, err
		}
	}
	r.kinds[name] = kind
	return kind, nil
}

// content notes the content of a file or of a whole folder.
func (r *recorder) content(name string) error {
	id, err := r.tree.ContentID(name)
	if err != nil {
		return fmt.Errorf("identify %s: %w", name, err)
	}
	r.note(Input{Path: name, Kind: InputContent, ID: id})
	return nil
}

// read is the content of a file.
func (r *recorder) read(name string) ([]byte, error) {
	kind, err := r.stat(name)
	if err != nil {
		return nil, err
	}
	if kind != file {
		return nil, fs.ErrNotExist
	}
	info, err := r.tree.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("stat %s: %w", name, err)
	}
	if info.Size() > r.maxFile {
		return nil, sources.Problem{File: name, Message: fmt.Sprintf("is %d bytes, and at most %d are read", info.Size(), r.maxFile)}
	}
	if r.left -= info.Size(); r.left < 0 {
		return nil, readsTooMuch(name)
	}
	data, err := r.tree.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// list is the names in a folder.
func (r *recorder) list(name string) ([]string, error) {
	kind, err := r.stat(name)
	if err != nil {
		return nil, err
	}
	if kind != folder {
		return nil, fs.ErrNotExist
	}
	names, id, err := listing(r.tree, name)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	r.note(Input{Path: name, Kind: InputListing, ID: id})
	return names, nil
}
