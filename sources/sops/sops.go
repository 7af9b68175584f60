// Package sops reads files that were encrypted with SOPS, in memory only.
//
// It implements the reading half of the documented file format: values of the
// form ENC[AES256_GCM,…], each authenticated together with its path, and a
// message authentication code over all of them. Files in YAML, JSON and dotenv
// keep their structure; any other file is a JSON envelope around its bytes.
// The data key is decrypted with age and OpenPGP keys in this process. For a
// cloud's key service a configured sops program is run, since the clients of all
// the clouds would be half of this binary.
package sops

import (
	"bytes"
	"context"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// maxBytes bounds a file that is decrypted.
const maxBytes = 16 << 20

// Plain is a decrypted file.
type Plain struct {
	// Data is the file without encryption. YAML and JSON come back as JSON in
	// which every key is on the line that it had in the encrypted file.
	Data []byte
	// Secrets are the values that were encrypted, for a redactor.
	Secrets [][]byte
}

// format is how a file is laid out.
type format int

const (
	formatBinary format = iota
	formatYAML
	formatJSON
	formatEnv
	formatINI
)

func (f format) String() string {
	return [...]string{"binary", "yaml", "json", "dotenv", "ini"}[f]
}

// formatOf goes by the name, as the sops program does.
func formatOf(name string) format {
	switch path.Ext(name) {
	case ".yaml", ".yml":
		return formatYAML
	case ".json":
		return formatJSON
	case ".env":
		return formatEnv
	case ".ini":
		return formatINI
	}
	return formatBinary
}

// Encrypted says whether a file is encrypted with SOPS. It is cheap, and says yes
// to what only looks like it, which Decrypt then explains.
func Encrypted(name string, data []byte) bool {
	if !bytes.Contains(data, []byte("ENC[AES256_GCM,")) {
		return false
	}
	switch formatOf(name) {
	case formatEnv:
		return bytes.HasPrefix(data, []byte("sops_")) || bytes.Contains(data, []byte("\nsops_"))
	case formatYAML:
		return bytes.HasPrefix(data, []byte("sops:")) || bytes.Contains(data, []byte("\nsops:")) || bytes.Contains(data, []byte(`"sops"`))
	case formatINI:
		return bytes.Contains(data, []byte("[sops]"))
	}
	return bytes.Contains(data, []byte(`"sops"`))
}

// Decrypt decrypts a file. What is wrong with the file, or with the keys for it,
// is a sources.Problem; it never holds a value.
func (k *Keyring) Decrypt(ctx context.Context, name string, data []byte) (Plain, error) {
	if len(data) > maxBytes {
		return Plain{}, problem(name, fmt.Sprintf("is %d bytes, and at most %d are decrypted", len(data), maxBytes), "")
	}
	f := formatOf(name)
	if f == formatINI {
		return Plain{}, problem(name, "is an encrypted INI file, which is not read", "keep it as YAML, JSON or .env")
	}
	t, err := parse(f, data)
	if err != nil {
		return Plain{}, problem(name, "cannot be read as a file of SOPS: "+err.Error(), "")
	}
	meta, err := t.metadata(f)
	if err != nil {
		return Plain{}, problem(name, err.Error(), "")
	}
	key, err := k.dataKey(meta)
	if errors.Is(err, errOtherService) {
		return k.program.decrypt(ctx, name, f, data, meta)
	}
	if err != nil {
		return Plain{}, problem(name, err.Error(), "encrypt the file for one of the keys that the environment names")
	}
	return t.open(name, f, meta, key)
}

func problem(name, message, hint string) error {
	return sources.Problem{File: name, Message: message, Hint: hint}
}

// open decrypts all values and checks that nobody changed one.
func (t *tree) open(name string, f format, meta metadata, key []byte) (Plain, error) {
	rule, err := meta.rule()
	if err != nil {
		return Plain{}, problem(name, err.Error(), "")
	}
	o := &opener{key: key, rule: rule, mac: sha512.New(), onlyEncrypted: bool(meta.MACOnlyEncrypted)}
	if o.onlyEncrypted {
		o.mac.Write(onlyEncryptedMark)
	}
	for _, doc := range t.docs {
		if err := o.value(doc, nil); err != nil {
			return Plain{}, problem(name, err.Error(), "")
		}
	}
	modified, err := time.Parse(time.RFC3339, meta.LastModified)
	if err != nil {
		return Plain{}, problem(name, "sops.lastmodified is not a time", "")
	}
	want, err := decryptValue(meta.MAC, key, modified.Format(time.RFC3339))
	if err != nil {
		return Plain{}, problem(name, "sops.mac cannot be decrypted", "somebody changed the file without sops; decrypt an earlier version and encrypt it again")
	}
	got := strings.ToUpper(hex.EncodeToString(o.mac.Sum(nil)))
	text, _ := want.(string)
	if subtle.ConstantTimeCompare([]byte(got), []byte(text)) != 1 {
		return Plain{}, problem(name, "was changed after it was encrypted: its authentication code does not match", "edit it with sops, which keeps the code")
	}
	out, err := t.emit(f)
	if err != nil {
		return Plain{}, problem(name, err.Error(), "")
	}
	return Plain{Data: out, Secrets: o.secrets}, nil
}
