package kubelive

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/holdfast-gitops/holdfast/sources"
)

// journal is what changed since the baseline file was written: a correction costs
// the writing of one baseline, not of all. It is begun anew with each file, which
// it names, so that an old one is never taken for news. A batch that was cut off
// by a crash ends it, which costs a look at the newest objects.
//
// A batch is its length, a checksum, and a gob of records; the first is the name.
type journal struct {
	path string
	// name is that of the file, and size what the journal has grown to.
	name string
	size int64
}

// maxBatch bounds what is read at once from a journal, in bytes.
const maxBatch = 64 << 20

// newName is a name for a file and its journal.
func newName() string { return rand.Text() }

// begin empties the journal for a file of some name.
func (j *journal) begin(name string) error {
	j.name, j.size = "", 0
	file, err := os.OpenFile(j.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("begin the journal of baselines: %w", err)
	}
	n, err := writeBatch(file, name)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("begin the journal of baselines: %w", err)
	}
	j.name, j.size = name, n
	return nil
}

// add appends records; one without UID says that there is none any more.
func (j *journal) add(records []baselineRecord) error {
	file, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("add to the journal of baselines: %w", err)
	}
	n, err := writeBatch(file, records)
	j.size += n
	if err := errors.Join(err, file.Close()); err != nil {
		j.name = "" // what comes after what was cut off would never be read
		return fmt.Errorf("add to the journal of baselines: %w", err)
	}
	return nil
}

func writeBatch(w io.Writer, value any) (int64, error) {
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	if err := gob.NewEncoder(&b).Encode(value); err != nil {
		return 0, err
	}
	batch := b.Bytes()
	binary.LittleEndian.PutUint32(batch, uint32(len(batch)-8))
	binary.LittleEndian.PutUint32(batch[4:], crc32.ChecksumIEEE(batch[8:]))
	n, err := w.Write(batch)
	return int64(n), err
}

func readBatch(r io.Reader, into any) error {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxBatch {
		return errors.New("a batch is too large")
	}
	var body bytes.Buffer // grows with what is there, whatever the length says
	if n, err := io.CopyN(&body, r, int64(size)); err != nil || n < int64(size) {
		return io.ErrUnexpectedEOF
	}
	if crc32.ChecksumIEEE(body.Bytes()) != binary.LittleEndian.Uint32(head[4:]) {
		return errors.New("a batch is damaged")
	}
	return gob.NewDecoder(&body).Decode(into)
}

// replay brings what was read of a file of some name up to date, as far as the
// journal can be read.
func (j journal) replay(name string, into map[sources.ID]Baseline) {
	file, err := os.Open(j.path)
	if err != nil {
		return // none: nothing changed since
	}
	defer file.Close()
	var of string
	if readBatch(file, &of) != nil || of != name || name == "" {
		return
	}
	for {
		var records []baselineRecord
		if readBatch(file, &records) != nil {
			return
		}
		for _, r := range records {
			if r.Baseline.UID == "" {
				delete(into, r.ID)
			} else {
				into[r.ID] = r.Baseline
			}
		}
	}
}
