package kubelive

import (
	"compress/gzip"
	"crypto/rand"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-gitops/holdfast/sources"
)

// BaselineFile keeps baselines over restarts. Losing it costs one look at every
// object and nothing else, so it is written behind: a crash may lose the newest,
// whose objects are then looked at again. Beside it, under ".journal", is what
// changed since it was written.
type BaselineFile struct {
	// Path is the file; its folder must exist.
	Path string

	journal journal
	// size is that of the file, as far as it was written by this process.
	size int64
	// failed: what the last save took has not been written.
	failed bool
}

type baselineRecord struct {
	ID       sources.ID
	Baseline Baseline
}

// formatVersion changes when what a digest covers does, unless an older one costs
// its object no more than the look that a lost one does.
const formatVersion = 2

// Load reads the baselines. A file that is missing, damaged or of another format
// is an empty one: damaged is also returned as an error, to be told.
func (f *BaselineFile) Load() (map[sources.ID]Baseline, error) {
	file, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read baselines: %w", err)
	}
	defer file.Close()
	zip, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("read baselines %s (all objects will be verified): %w", f.Path, err)
	}
	var format int
	var records []baselineRecord
	dec := gob.NewDecoder(zip)
	if err := dec.Decode(&format); err != nil {
		return nil, fmt.Errorf("read baselines %s (all objects will be verified): %w", f.Path, err)
	}
	if format != formatVersion {
		return nil, nil
	}
	if err := dec.Decode(&records); err != nil {
		return nil, fmt.Errorf("read baselines %s (all objects will be verified): %w", f.Path, err)
	}
	out := make(map[sources.ID]Baseline, len(records))
	for _, r := range records {
		out[r.ID] = r.Baseline
	}
	var name string
	if dec.Decode(&name) == nil { // a file of before there was a journal has none
		journal{path: f.journalPath()}.replay(name, out)
	}
	return out, nil
}

func (f *BaselineFile) journalPath() string { return f.Path + ".journal" }

// minJournal is how much is added before the file is written anew, in bytes.
const minJournal = 1 << 20

// SaveIfChanged writes those of the index's baselines that changed: into the
// journal, or when that has become as large as the file, all of them into a new
// one.
func (f *BaselineFile) SaveIfChanged(x *Index) error {
	changed := x.unsavedCount()
	if changed == 0 && !f.failed {
		return nil
	}
	var err error
	if f.journal.name != "" && f.journal.size < max(minJournal, f.size) && changed < manyChanged {
		err = f.journal.add(x.takeUnsaved())
	} else {
		err = f.save(x.takeAll())
	}
	f.failed = err != nil
	return err
}

// manyChanged is how many changes at once are no matter for the journal.
const manyChanged = 2000

// save writes a file by rename, and begins its journal.
func (f *BaselineFile) save(records []baselineRecord) error {
	f.journal = journal{path: f.journalPath()}
	name := newName()
	temp, err := os.CreateTemp(filepath.Dir(f.Path), ".baselines-*")
	if err != nil {
		return fmt.Errorf("save baselines: %w", err)
	}
	defer os.Remove(temp.Name()) // gone already when all went well
	zip := gzip.NewWriter(temp)
	enc := gob.NewEncoder(zip)
	err = errors.Join(enc.Encode(formatVersion), enc.Encode(records), enc.Encode(name), zip.Close())
	if at, err := temp.Seek(0, io.SeekCurrent); err == nil {
		f.size = at
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), f.Path)
	}
	if err != nil {
		return fmt.Errorf("save baselines: %w", err)
	}
	return f.journal.begin(name)
}

// LoadKey reads the key for the digests of sensitive items, or makes one. A lost
// key costs one apply of every secret, which changes nothing in them.
func LoadKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read digest key: %w", err)
	}
	key = make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make digest key: %w", err)
	}
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return nil, fmt.Errorf("keep digest key: %w", err)
	}
	return key, nil
}
