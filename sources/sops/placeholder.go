package sops

import (
	"context"
	"strings"
)

// Placeholder stands in for keys where there are none: it gives encrypted files
// with every secret replaced by a value of its type that is none, so that all
// else of them can be checked. It verifies nothing.
type Placeholder struct{}

// placeholder is text, and base64 as the data of a Secret must be.
const placeholder = "ZW5jcnlwdGVk"

// ID tells it from all keys.
func (Placeholder) ID() string { return "placeholder" }

// Decrypt gives the file without secrets.
func (Placeholder) Decrypt(_ context.Context, name string, data []byte) (Plain, error) {
	f := formatOf(name)
	if f == formatINI {
		return Plain{}, problem(name, "is an encrypted INI file, which is not read", "keep it as YAML, JSON or .env")
	}
	t, err := parse(f, data)
	if err != nil {
		return Plain{}, problem(name, "cannot be read as a file of SOPS: "+err.Error(), "")
	}
	if _, err := t.metadata(f); err != nil {
		return Plain{}, problem(name, err.Error(), "")
	}
	for _, doc := range t.docs {
		doc.conceal()
	}
	out, err := t.emit(f)
	if err != nil {
		return Plain{}, problem(name, err.Error(), "")
	}
	return Plain{Data: out}, nil
}

// conceal replaces what is encrypted below a node.
func (n *node) conceal() {
	for _, e := range n.entries {
		e.value.conceal()
	}
	text, ok := n.scalar.(string)
	if !ok || !strings.HasPrefix(text, "ENC[AES256_GCM,") {
		return
	}
	m := encrypted.FindStringSubmatch(text)
	if m == nil {
		return
	}
	switch m[4] {
	case "int":
		n.scalar = 0
	case "float":
		n.scalar = 0.5
	case "bool":
		n.scalar = false
	case "comment":
		n.scalar = comment{}
	default:
		n.scalar = placeholder
	}
}
