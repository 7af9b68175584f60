package hostfiles

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-gitops/holdfast/drift"
)

// The fields of a file, as changes name them.
const (
	fieldContent = ".spec.content"
	fieldMode    = ".spec.mode"
	fieldOwner   = ".spec.owner"
)

// maxLineDiff bounds the texts that are compared by lines.
const maxLineDiff = 256 << 10

// differences are the fields in which a live file is not as it is to be. Who did
// it, a file system does not say; when, its times do.
func differences(w wanted, l live) []drift.Change {
	var out []drift.Change
	add := func(path string, desired, found any, when bool) {
		c := drift.Change{
			Path: path, Desired: drift.NewValue(desired, w.item.Sensitive && strings.HasPrefix(path, fieldContent)),
			Live: drift.NewValue(found, w.item.Sensitive && strings.HasPrefix(path, fieldContent)), Manager: drift.Unknown,
		}
		if when {
			c.Time = l.modified.UTC()
		} else if !l.changed.IsZero() {
			c.Time = l.changed.UTC()
		}
		out = append(out, c)
	}
	if l.large || !bytes.Equal(w.content, l.content) {
		path, desired, found := contentChange(w, l)
		add(path, desired, found, true)
	}
	if wrongMode(w, l.stamp) {
		add(fieldMode, fmt.Sprintf("%04o", w.mode), modeText(l.stamp), false)
	}
	if wrongOwner(w, l.stamp) {
		add(fieldOwner, w.owner, ownerText(w, l.stamp), false)
	}
	return out
}

// modeText is a mode as chmod takes it, with the bits beyond permissions.
func modeText(s stamp) string {
	text := fmt.Sprintf("%04o", s.mode.Perm())
	if special := s.mode.String(); strings.ContainsAny(special[:1], "ugt") {
		text += " with " + special
	}
	return text
}

// contentChange is the region of lines that differs, where both are text, else
// what stands for each content.
func contentChange(w wanted, l live) (path, desired, found string) {
	if l.large || !isText(w.content) || !isText(l.content) || w.item.Sensitive {
		return fieldContent, about(w.content), aboutLive(l)
	}
	a, b := slices.Collect(strings.Lines(string(w.content))), slices.Collect(strings.Lines(string(l.content)))
	first := 0
	for first < len(a) && first < len(b) && a[first] == b[first] {
		first++
	}
	lastA, lastB := len(a), len(b)
	for lastA > first && lastB > first && a[lastA-1] == b[lastB-1] {
		lastA--
		lastB--
	}
	return fmt.Sprintf("%s[line %d]", fieldContent, first+1), strings.Join(a[first:lastA], ""), strings.Join(b[first:lastB], "")
}

func isText(data []byte) bool {
	return len(data) <= maxLineDiff && utf8.Valid(data) && !bytes.Contains(data, []byte{0})
}

// about stands for content that is not shown.
func about(data []byte) string {
	return fmt.Sprintf("%d bytes, sha256 %s", len(data), digest(false, nil, data)[:16])
}

func aboutLive(l live) string {
	if l.large {
		return fmt.Sprintf("%d bytes", l.size)
	}
	return about(l.content)
}
