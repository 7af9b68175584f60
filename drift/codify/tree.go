package codify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// overlay is a tree in which some files have another content.
type overlay struct {
	sources.Tree
	changed map[string][]byte
}

// with is the overlay with one more file changed.
func (o *overlay) with(name string, content []byte) *overlay {
	changed := maps.Clone(o.changed)
	changed[name] = content
	return &overlay{Tree: o.Tree, changed: changed}
}

func (o *overlay) names() []string { return slices.Sorted(maps.Keys(o.changed)) }

// ReadFile implements fs.ReadFileFS.
func (o *overlay) ReadFile(name string) ([]byte, error) {
	if content, ok := o.changed[name]; ok {
		return slices.Clone(content), nil
	}
	return o.Tree.ReadFile(name)
}

// Open implements fs.FS.
func (o *overlay) Open(name string) (fs.File, error) {
	content, ok := o.changed[name]
	if !ok {
		return o.Tree.Open(name)
	}
	info, err := o.Stat(name)
	if err != nil {
		return nil, err
	}
	return &openFile{Reader: bytes.NewReader(content), info: info}, nil
}

// Stat implements fs.StatFS.
func (o *overlay) Stat(name string) (fs.FileInfo, error) {
	info, err := o.Tree.Stat(name)
	if content, ok := o.changed[name]; ok && err == nil {
		return changedInfo{info, int64(len(content))}, nil
	}
	return info, err
}

// ContentID implements sources.Tree: what holds a changed file is another thing.
func (o *overlay) ContentID(name string) (string, error) {
	id, err := o.Tree.ContentID(name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	touched := false
	for _, file := range o.names() {
		if file == name || name == "." || strings.HasPrefix(file, name+"/") {
			touched = true
			fmt.Fprintf(h, "%s\x00%s\x00%d:%s", id, file, len(o.changed[file]), o.changed[file])
		}
	}
	if !touched {
		return id, nil
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

type openFile struct {
	*bytes.Reader
	info fs.FileInfo
}

// Stat implements fs.File.
func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close implements fs.File.
func (f *openFile) Close() error { return nil }

type changedInfo struct {
	fs.FileInfo
	size int64
}

// Size implements fs.FileInfo.
func (i changedInfo) Size() int64 { return i.size }

// ModTime implements fs.FileInfo.
func (i changedInfo) ModTime() time.Time { return time.Time{} }

// around is how many lines a diff shows around a change.
const around = 3

// unified is the difference of two texts in unified form, as one hunk.
func unified(name, before, after string) string {
	a, b := lines(before), lines(after)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	// Other documents are none of its business, and may be secret.
	from, to := head, 0
	for from > 0 && head-from < around && !(from < head && isBorder(a[from])) {
		from--
	}
	for to < min(tail, around) && !(to > 0 && isBorder(a[len(a)-tail+to-1])) {
		to++
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- a/%s\n+++ b/%s\n@@ -%d,%d +%d,%d @@\n", name, name,
		from+1, len(a)-tail+to-from, from+1, len(b)-tail+to-from)
	write := func(mark string, some []string) {
		for _, l := range some {
			out.WriteString(mark + l)
			if !strings.HasSuffix(l, "\n") {
				out.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	write(" ", a[from:head])
	write("-", a[head:len(a)-tail])
	write("+", b[head:len(b)-tail])
	write(" ", a[len(a)-tail:len(a)-tail+to])
	return out.String()
}

// isBorder reports whether a line parts two documents.
func isBorder(line string) bool { return strings.HasPrefix(line, "---") }

func lines(text string) []string {
	if text == "" {
		return nil
	}
	out := strings.SplitAfter(text, "\n")
	if out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}
