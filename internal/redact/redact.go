// Package redact takes known secrets out of texts.
//
// It is the second line of defence. The first is that sensitivity travels with
// a value: what is marked sensitive masks itself. But the text of a library's
// error may quote anything, so what was decrypted is also searched for.
package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

// MinLength is the length, in bytes, of the shortest value that is searched for.
// Shorter ones are in too many words by chance.
const MinLength = 6

// Mask stands where a secret was.
const Mask = "***"

// maxBytes bounds what is remembered. The oldest values are forgotten first.
const maxBytes = 16 << 20

// Redactor knows secrets. The zero value knows none. It is safe for concurrent
// use; it must not be copied after its first use.
type Redactor struct {
	mu     sync.RWMutex
	known  map[string]bool
	order  []string
	size   int
	masker *strings.Replacer
}

// Add makes values known: each as it is, its lines, and its forms in base64 and
// in JSON.
func (r *Redactor) Add(values ...[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		v = bytes.TrimSpace(v)
		r.addForms(string(v))
		r.add(base64.StdEncoding.EncodeToString(v))
		if !bytes.ContainsRune(v, '\n') {
			continue
		}
		for line := range bytes.Lines(v) {
			r.addForms(strings.TrimSpace(string(line)))
		}
	}
}

// addForms adds a text as it is and as JSON has it, where encoders differ in what
// they escape.
func (r *Redactor) addForms(s string) {
	r.add(s)
	for _, html := range []bool{false, true} {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(html)
		if e.Encode(s) == nil {
			r.add(b.String()[1 : b.Len()-2]) // without quotes and the end of the line
		}
	}
}

func (r *Redactor) add(s string) {
	if len(s) < MinLength || r.known[s] || len(s) > maxBytes {
		return
	}
	if r.known == nil {
		r.known = map[string]bool{}
	}
	r.known[s], r.masker = true, nil
	r.order = append(r.order, s)
	for r.size += len(s); r.size > maxBytes; r.order = r.order[1:] {
		r.size -= len(r.order[0])
		delete(r.known, r.order[0])
	}
}

// Empty says that nothing is known.
func (r *Redactor) Empty() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.order) == 0
}

// Contains says whether a text holds a known secret.
func (r *Redactor) Contains(text []byte) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.order {
		if bytes.Contains(text, []byte(s)) {
			return true
		}
	}
	return false
}

// Scrub is the text with a mask in the place of each known secret.
func (r *Redactor) Scrub(text string) string {
	r.mu.RLock()
	m, empty := r.masker, len(r.order) == 0
	r.mu.RUnlock()
	if empty {
		return text
	}
	if m == nil {
		m = r.build()
	}
	return m.Replace(text)
}

// build makes the replacer. Longer values come first: one may be part of
// another.
func (r *Redactor) build() *strings.Replacer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.masker == nil {
		known := slices.Clone(r.order)
		slices.SortFunc(known, func(a, b string) int { return len(b) - len(a) })
		pairs := make([]string, 0, 2*len(known))
		for _, s := range known {
			pairs = append(pairs, s, Mask)
		}
		r.masker = strings.NewReplacer(pairs...)
	}
	return r.masker
}
