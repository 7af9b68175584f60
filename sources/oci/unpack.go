package oci

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

const (
	// maxPath and maxDepth bound a name in an archive, maxLink a link's text.
	maxPath  = 4096
	maxDepth = 200
	maxLink  = 4096
	// freeBytes are unpacked whatever the ratio to the layer is.
	freeBytes = 16 << 20
)

// unpacker reads an archive into a tree, and the bytes of its files one after
// the other into a single file.
type unpacker struct {
	limits  Limits
	allowed int64 // bytes, by the limit or the ratio
	out     io.Writer
	tree    *builder
	written int64
}

// unpack reads the archive of a layer of so many bytes.
func unpack(ctx context.Context, layer io.Reader, size int64, limits Limits, out io.Writer) (*node, int64, error) {
	u := &unpacker{limits: limits, out: out, tree: newBuilder(limits.Files)}
	u.allowed = min(limits.UnpackedBytes, max(freeBytes, size*limits.Ratio))
	packed, err := gzip.NewReader(layer)
	if err != nil {
		return nil, 0, unreadable(err)
	}
	// What surrounds the files in an archive counts as well.
	bounded := &boundedReader{src: packed, left: u.allowed + int64(limits.Files)*2048 + freeBytes}
	archive := tar.NewReader(bounded)
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, unreadable(err)
		}
		if err := u.entry(h, archive); err != nil {
			return nil, 0, err
		}
	}
	return u.tree.finish(), u.written, nil
}

// unreadable marks what is wrong with an archive, unless a limit says it already.
func unreadable(err error) error {
	var known *failure
	if errors.As(err, &known) {
		return err
	}
	return fail(ErrArtifact, "the layer is not a valid tar+gzip archive: "+printable(err.Error(), 200), "publish the artifact again")
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // says something of the archive, and is no file
	}
	name, err := cleanName(h.Name)
	switch {
	case err != nil || name == "":
		return err
	case name == "." && h.Typeflag == tar.TypeDir:
		return nil
	case name == ".":
		return refuse(h.Name, "has no name of its own")
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.tree.folder(name)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxLink || strings.ContainsRune(h.Linkname, 0) {
			return refuse(h.Name, "is a symbolic link without a valid target")
		}
		return u.tree.add(name, &node{kind: treefs.Link, link: h.Linkname, size: int64(len(h.Linkname))})
	case tar.TypeLink:
		return u.hardLink(name, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, h, content)
	}
	return refuse(h.Name, "is neither a file, a folder nor a link")
}

// hardLink makes a copy of a file that came before.
func (u *unpacker) hardLink(name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil || target == "" || target == "." {
		return refuse(h.Name, "is a link to a name that is refused")
	}
	n := u.tree.find(target)
	if n == nil || n.kind != treefs.File && n.kind != treefs.Executable {
		return refuse(h.Name, fmt.Sprintf("is a link to %q, which is no file before it in the archive", printable(h.Linkname, 200)))
	}
	same := *n
	return u.tree.add(name, &same)
}

func (u *unpacker) file(name string, h *tar.Header, content io.Reader) error {
	if h.Size < 0 || h.Size > u.allowed-u.written {
		return u.tooMuch()
	}
	n := &node{kind: treefs.File, offset: u.written, size: h.Size}
	if h.Mode&0o111 != 0 {
		n.kind = treefs.Executable
	}
	// Before the content, so that a name that is refused costs nothing.
	if err := u.tree.add(name, n); err != nil {
		return err
	}
	sum := sha256.New()
	w := &diskWriter{w: u.out}
	written, err := io.Copy(io.MultiWriter(sum, w), content)
	u.written += written
	switch {
	case w.err != nil:
		return local(w.err)
	case err != nil:
		return unreadable(err)
	case written != h.Size:
		return unreadable(io.ErrUnexpectedEOF)
	}
	n.sum = [sha256.Size]byte(sum.Sum(nil))
	return nil
}

func (u *unpacker) tooMuch() error {
	if u.allowed < u.limits.UnpackedBytes {
		return fail(ErrTooLarge, fmt.Sprintf("the files are more than %d times larger than the layer", u.limits.Ratio),
			"that is what archives do that are made to fill disks; raise the limit if it is meant")
	}
	return fail(ErrTooLarge, fmt.Sprintf("the files have more than %d bytes", u.limits.UnpackedBytes), "raise the limit or make the artifact smaller")
}

// cleanName is an archive's name as a path of io/fs; empty for what belongs to a
// repository rather than to its content.
func cleanName(raw string) (string, error) {
	switch {
	case strings.HasPrefix(raw, "/"):
		return "", refuse(raw, "is absolute")
	case len(raw) > maxPath:
		return "", refuse(raw, "is too long")
	case !utf8.ValidString(raw) || strings.IndexFunc(raw, unicode.IsControl) >= 0:
		return "", refuse(raw, "holds control characters or is not UTF-8")
	case strings.Contains("/"+raw+"/", "/../"):
		return "", refuse(raw, "leads out of the artifact")
	}
	name := path.Clean(raw)
	parts := strings.Split(name, "/")
	if len(parts) > maxDepth {
		return "", refuse(raw, fmt.Sprintf("is nested more than %d deep", maxDepth))
	}
	if slices.Contains(parts, ".git") {
		return "", nil
	}
	return name, nil
}

func refuse(name, why string) error {
	return fail(ErrArtifact, fmt.Sprintf("the archive's entry %q %s", printable(name, 200), why), "pack the files anew")
}

// boundedReader ends with an error where an io.LimitReader would end as if all
// was read.
type boundedReader struct {
	src  io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fail(ErrTooLarge, "the archive is larger than the limits allow", "raise the limits or make the artifact smaller")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.src.Read(p)
	b.left -= int64(n)
	return n, err
}
