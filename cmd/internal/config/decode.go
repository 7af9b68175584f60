package config

import (
	"time"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// decoder reads a file's values and collects everything that is wrong, rather
// than the first of it.
type decoder struct {
	yamldoc.Decoder
	// dir is what relative paths in the file begin at.
	dir string
}

func newDecoder(dir string) *decoder {
	return &decoder{Decoder: yamldoc.Decoder{At: map[any]*yamldoc.Node{}}, dir: dir}
}

// parse is the file's one document, nil when there is none.
func (d *decoder) parse(file string, text []byte) *yamldoc.Node {
	root, second, problems := yamldoc.Parse(file, 1, text)
	d.Problems = problems
	switch {
	case root == nil && len(problems) > 0:
		return nil
	case root == nil || root.IsNull():
		d.Fail(&yamldoc.Node{File: file, Line: 1}, "is empty", "at least one source is needed")
		return nil
	}
	if second != nil {
		d.Fail(second, "holds a second document", "the daemon's file is one document")
	}
	return root
}

// on is a key with what reads its value.
func on(key string, read func(*yamldoc.Node)) yamldoc.Field {
	return yamldoc.Field{Key: key, Read: read}
}

func (d *decoder) textField(key, what string, into *string) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) { d.Text(n, what+key, into) })
}

func (d *decoder) boolField(key, what string, into *bool) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) { d.Bool(n, what+key, into) })
}

// countField reads a number from 1 to a limit.
func (d *decoder) countField(key, what string, limit int, into *int) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) {
		v := int64(*into)
		d.Number(n, what+key, 1, int64(limit), &v)
		*into = int(v)
	})
}

func (d *decoder) durationField(key, what string, least time.Duration, into *time.Duration) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) { d.Duration(n, what+key, least, 0, into) })
}

// wordField reads one of a few words.
func (d *decoder) wordField(key, what string, into *string, words ...string) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) { d.Word(n, what+key, into, words...) })
}

// pathField reads the path of a file, which is relative to the daemon's own.
func (d *decoder) pathField(key, what string, into *string) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) {
		if d.Text(n, what+key, into) {
			*into = absolute(d.dir, *into)
		}
	})
}
