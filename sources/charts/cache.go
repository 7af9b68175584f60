package charts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// record says which archive a version was when it was fetched.
type record struct {
	Repo    string `json:"repo"`
	Chart   string `json:"chart"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// recordFile is the file with the record of a chart.
func (s *Store) recordFile(w wanted) string {
	key, err := json.Marshal([]string{w.repo.String(), w.chart, w.version})
	if err != nil { // three texts always encode
		key = []byte(w.String())
	}
	return filepath.Join(s.o.Dir, digestOf(key)+".json")
}

func (s *Store) archive(digest string) string { return filepath.Join(s.o.Dir, digest+".tgz") }

// kept is a chart from the cache, if it is there and whole.
func (s *Store) kept(w wanted) ([]byte, bool) {
	r, ok := s.recorded(w)
	if !ok {
		return nil, false
	}
	file := s.archive(filepath.Base(r.SHA256))
	if info, err := os.Stat(file); err != nil || info.Size() > s.o.MaxBytes {
		return nil, false
	}
	data, err := os.ReadFile(file)
	if err != nil || digestOf(data) != r.SHA256 {
		return nil, false
	}
	return data, true
}

// recorded is what is written down of a version.
func (s *Store) recorded(w wanted) (r record, ok bool) {
	text, err := os.ReadFile(s.recordFile(w))
	if err != nil || json.Unmarshal(text, &r) != nil || len(r.SHA256) != 64 {
		return record{}, false
	}
	return r, r.Chart == w.chart && r.Version == w.version && r.Repo == w.repo.String()
}

// keep puts a chart into the cache: the archive first, so that a record never
// stands for nothing.
func (s *Store) keep(w wanted, data []byte) error {
	digest := digestOf(data)
	if r, ok := s.recorded(w); ok && r.SHA256 != digest {
		return problem(w.String()+" was published again with other content", "if that is meant, wipe the daemon's cache of charts")
	}
	text, err := json.Marshal(record{w.repo.String(), w.chart, w.version, digest})
	if err != nil {
		return err
	}
	if err := write(s.archive(digest), data); err != nil {
		return err
	}
	return write(s.recordFile(w), text)
}

// write replaces a file as a whole.
func write(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("keep a chart: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("keep a chart: %w", err)
	}
	return nil
}
