package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// emit writes a decrypted tree in its format.
func (t *tree) emit(f format) ([]byte, error) {
	var e emitter
	switch f {
	case formatEnv:
		for _, x := range t.docs[0].entries {
			text, err := authenticated(x.value.scalar)
			if err != nil {
				return nil, fmt.Errorf("%s %w", x.key, err)
			}
			fmt.Fprintf(&e.out, "%s=%s\n", x.key, strings.ReplaceAll(text, "\n", `\n`))
		}
		return e.out.Bytes(), nil
	case formatBinary:
		data := t.docs[0].take("data")
		if data == nil {
			return nil, errors.New("has no text under data, as an encrypted file that is neither YAML, JSON nor .env must have")
		}
		text, ok := data.scalar.(string)
		if !ok {
			return nil, errors.New("has something other than text under data")
		}
		return []byte(text), nil
	}
	for i, doc := range t.docs {
		if i > 0 {
			// The separator stands above the document's first line.
			e.moveTo(doc.line-1, 1)
			e.out.WriteString("---")
			e.moveTo(doc.line, 1)
		}
		e.moveTo(doc.line, 0)
		if err := e.value(doc); err != nil {
			return nil, err
		}
	}
	e.out.WriteByte('\n')
	return e.out.Bytes(), nil
}

// emitter writes JSON and keeps what it writes on the lines that it came from.
type emitter struct {
	out bytes.Buffer
	at  int
}

// moveTo goes to a line, and by so many lines at least.
func (e *emitter) moveTo(line, least int) {
	for e.at+1 < line || least > 0 {
		e.out.WriteByte('\n')
		e.at++
		least--
	}
}

func (e *emitter) value(n *node) error {
	switch n.kind {
	case mapping:
		return e.container(n, '{', '}')
	case list:
		return e.container(n, '[', ']')
	}
	var text []byte
	var err error
	switch v := n.scalar.(type) {
	case time.Time:
		text, err = json.Marshal(v.Format(time.RFC3339Nano))
	case float64:
		// As many digits as needed and no exponent, so that it stays a number in
		// every reading of YAML.
		text = strconv.AppendFloat(nil, v, 'f', -1, 64)
		if !json.Valid(text) {
			err = errors.New("a number is infinite")
		}
	default:
		text, err = marshal(v)
	}
	e.out.Write(text)
	return err
}

func (e *emitter) container(n *node, open, end byte) error {
	e.out.WriteByte(open)
	first := true
	for _, x := range n.entries {
		if _, dropped := x.value.scalar.(comment); dropped {
			continue
		}
		if !first {
			e.out.WriteByte(',')
		}
		first = false
		if e.at+1 < x.line {
			e.moveTo(x.line, 0)
			e.out.WriteByte(' ') // never at the margin, where --- would mean something
		}
		if n.kind == mapping {
			key, err := marshal(x.key)
			if err != nil {
				return err
			}
			e.out.Write(append(key, ':', ' '))
		}
		if err := e.value(x.value); err != nil {
			return err
		}
	}
	e.out.WriteByte(end)
	return nil
}

// marshal is JSON that stays as it was written: without escaped HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, errors.New("a value cannot be written")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
