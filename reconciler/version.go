package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// renderedNow is what is desired, and under which version that was rendered. It
// must be called by the worker.
func (w *worker) renderedNow(a Assignment) Rendered {
	return Rendered{Revision: a.Revision.ID, Version: w.engine.opts.Version, Digest: w.digest()}
}

// digest stands for the desired items, but for the content of sensitive ones,
// which people who may read the state could otherwise confirm guesses of.
func (w *worker) digest() string {
	h := sha256.New()
	for i := range w.desired {
		digest := w.desired[i].Digest
		if w.desired[i].Sensitive {
			digest = ""
		}
		fmt.Fprintf(h, "%s\x00%s\x00", w.desired[i].ID, digest)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// versionGate holds what only another version of Holdfast renders differently:
// nobody merged that. It looks once for each revision, after the version has
// changed.
func (w *worker) versionGate(c choice) *Gate {
	before := c.state.Rendered
	if before.Digest == "" || w.engine.opts.Version == "" || before.Version == w.engine.opts.Version || before.Revision != c.a.Revision.ID {
		return nil
	}
	if w.digest() == before.Digest {
		return nil
	}
	return &Gate{
		Kind: GateVersion,
		Why:  fmt.Sprintf("revision %s renders to something else under version %s than under %s; approve the plan", c.a.Revision.Short(), w.engine.opts.Version, before.Version),
	}
}
