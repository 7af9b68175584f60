package hostfiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Where the records are, below the root.
const (
	stateDir = ".holdfast"
	tempDir  = stateDir + "/tmp"
	lockFile = stateDir + "/lock"
)

// everything is the name of the record that holds the state of all environments
// together; no environment can have it.
const everything = "_all"

// maxRecord bounds a record's file.
const maxRecord = 64 << 20

// recordVersion is written into records; one of another version is not touched.
const recordVersion = 1

// record is what one environment owns, and what people decided about it. It is
// written before the first of its files, so that a crash leaves none unknown.
type record struct {
	Version      int    `json:"version"`
	Environment  string `json:"environment"`
	Installation string `json:"installation"`
	Source       string `json:"source,omitempty"`
	// Files are those that the environment has, by identity.
	Files map[string]entry `json:"files"`
	// Folders are those that were made for them, and go with the last of them.
	Folders []string         `json:"folders,omitempty"`
	State   reconciler.State `json:"state,omitzero"`
}

// entry is one file.
type entry struct {
	ID   sources.ID `json:"id"`
	Path string     `json:"path"`
	// Digest stands for all that was applied, Sum for the content. Both are empty
	// while nothing was.
	Digest string `json:"digest,omitempty"`
	Sum    string `json:"sum,omitempty"`
	// Pending is the content that is about to be written. If it is still there
	// later, the write was cut short, or was done and not noted.
	Pending string `json:"pending,omitempty"`
	// PendingPath is where it is about to be written, if not at Path.
	PendingPath string `json:"pendingPath,omitempty"`
	// Sensitive says how the digests were made.
	Sensitive bool `json:"sensitive,omitempty"`
	Keep      bool `json:"keep,omitempty"`
	Guarded   bool `json:"protected,omitempty"`
}

// wrote reports whether live content is what we wrote there, or were about to.
func (e entry) wrote(sum string) bool { return sum != "" && (sum == e.Sum || sum == e.Pending) }

func newRecord(environment, installation string) *record {
	return &record{Version: recordVersion, Environment: environment, Installation: installation, Files: map[string]entry{}}
}

// clone is a copy that can be changed on its own.
func (r *record) clone() *record {
	out := *r
	out.Files = make(map[string]entry, len(r.Files))
	for k, e := range r.Files {
		out.Files[k] = e
	}
	out.Folders = append([]string(nil), r.Folders...)
	return &out
}

var recordName = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|_all)\.json$`)

// loadRecords reads all records below a root; a root without any has none.
func loadRecords(root *os.Root) (map[string]*record, error) {
	out := map[string]*record{}
	dir, err := root.Open(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return nil, err
	}
	for _, name := range names {
		if !recordName.MatchString(name) {
			continue
		}
		r, err := loadRecord(root, path.Join(stateDir, name))
		if err != nil {
			return nil, err
		}
		if r.Environment != strings.TrimSuffix(name, ".json") {
			return nil, fmt.Errorf("%s/%s is the record of environment %q", stateDir, name, r.Environment)
		}
		out[r.Environment] = r
	}
	return out, nil
}

func loadRecord(root *os.Root, p string) (*record, error) {
	f, err := root.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", p, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%s has version %d, and this program knows %d", p, r.Version, recordVersion)
	}
	if r.Files == nil {
		r.Files = map[string]entry{}
	}
	for key, e := range r.Files {
		// Deleting goes by these paths: what no item could ask for is not ours.
		if badPath(e.Path) != "" || e.PendingPath != "" && badPath(e.PendingPath) != "" || keyOf(e.ID) != key {
			return nil, fmt.Errorf("%s holds %q, which no file of ours can have", p, e.Path)
		}
	}
	return r, nil
}

// saveRecord writes a record whole and durably.
func saveRecord(root *os.Root, r *record) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("encode the record of %s: %w", r.Environment, err)
	}
	if err := root.MkdirAll(tempDir, 0o700); err != nil {
		return fmt.Errorf("write the record of %s: %w", r.Environment, err)
	}
	err := put(root, replacement{
		path: path.Join(stateDir, r.Environment+".json"), content: b.Bytes(), mode: 0o600, uid: -1, gid: -1,
	})
	if err != nil {
		return fmt.Errorf("write the record of %s: %w", r.Environment, err)
	}
	return nil
}

// keyOf is an identity as a record's key.
func keyOf(id sources.ID) string { return id.Namespace + "/" + id.Name }
