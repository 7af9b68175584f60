package sops

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// metadata is the part of a file under "sops".
type metadata struct {
	keyGroup
	KeyGroups               []keyGroup `json:"key_groups"`
	LastModified            string     `json:"lastmodified"`
	MAC                     string     `json:"mac"`
	UnencryptedSuffix       string     `json:"unencrypted_suffix"`
	EncryptedSuffix         string     `json:"encrypted_suffix"`
	UnencryptedRegex        string     `json:"unencrypted_regex"`
	EncryptedRegex          string     `json:"encrypted_regex"`
	UnencryptedCommentRegex string     `json:"unencrypted_comment_regex"`
	EncryptedCommentRegex   string     `json:"encrypted_comment_regex"`
	MACOnlyEncrypted        loose      `json:"mac_only_encrypted"`
}

// keyGroup are keys of which each can decrypt the data key.
type keyGroup struct {
	Age      []masterKey `json:"age"`
	PGP      []masterKey `json:"pgp"`
	AWS      []masterKey `json:"kms"`
	GCP      []masterKey `json:"gcp_kms"`
	Azure    []masterKey `json:"azure_kv"`
	Vault    []masterKey `json:"hc_vault"`
	HuaweiKS []masterKey `json:"hckms"`
}

// masterKey is one key, by the fields that its service has.
type masterKey struct {
	Encrypted    string `json:"enc"`
	Recipient    string `json:"recipient"`
	Fingerprint  string `json:"fp"`
	ARN          string `json:"arn"`
	Role         string `json:"role"`
	Profile      string `json:"aws_profile"`
	ResourceID   string `json:"resource_id"`
	VaultURL     string `json:"vault_url"`
	Name         string `json:"name"`
	Version      string `json:"version"`
	VaultAddress string `json:"vault_address"`
	EnginePath   string `json:"engine_path"`
	KeyName      string `json:"key_name"`
	KeyID        string `json:"key_id"`
}

// loose is a boolean that a dotenv file holds as text.
type loose bool

// UnmarshalJSON takes a boolean, also as text.
func (l *loose) UnmarshalJSON(data []byte) error {
	v, err := strconv.ParseBool(strings.Trim(string(data), `"`))
	*l = loose(v)
	return err
}

// metadata takes the part under "sops" out of every document and reads the first.
func (t *tree) metadata(f format) (metadata, error) {
	var m metadata
	var raw *node
	if f == formatEnv {
		raw = t.flattened()
	} else {
		for i, doc := range t.docs {
			if found := doc.take("sops"); i == 0 {
				raw = found
			}
		}
	}
	if raw == nil || raw.kind != mapping {
		return m, errors.New("is not encrypted with SOPS: it has no mapping sops")
	}
	var b emitter
	if err := b.value(raw); err != nil {
		return m, fmt.Errorf("sops: %w", err)
	}
	if err := json.Unmarshal(b.out.Bytes(), &m); err != nil {
		return m, errors.New("the mapping sops is not as the format has it")
	}
	return m, m.check()
}

func (m *metadata) check() error {
	if len(m.KeyGroups) > 1 {
		return fmt.Errorf("its data key is split over %d key groups, and files with one group are read", len(m.KeyGroups))
	}
	if len(m.KeyGroups) == 1 {
		m.keyGroup = m.KeyGroups[0]
	}
	if m.EncryptedCommentRegex != "" || m.UnencryptedCommentRegex != "" {
		return errors.New("comments choose what is encrypted in it, which is not read: use encrypted_regex")
	}
	if m.MAC == "" {
		return errors.New("has no authentication code (sops.mac)")
	}
	return nil
}

// rule says which values are encrypted, by the keys that lead to them.
func (m metadata) rule() (func(path []string) bool, error) {
	var chosen []string
	for _, s := range []string{m.UnencryptedSuffix, m.EncryptedSuffix, m.UnencryptedRegex, m.EncryptedRegex} {
		if s != "" {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) > 1 {
		return nil, errors.New("has more than one rule for what is encrypted")
	}
	anyKey := func(matches func(string) bool, then bool) func([]string) bool {
		return func(path []string) bool {
			for _, key := range path {
				if matches(key) {
					return then
				}
			}
			return !then
		}
	}
	suffix := func(s string) func(string) bool {
		return func(key string) bool { return strings.HasSuffix(key, s) }
	}
	switch {
	case m.EncryptedSuffix != "":
		return anyKey(suffix(m.EncryptedSuffix), true), nil
	case m.EncryptedRegex == "" && m.UnencryptedRegex == "" && m.UnencryptedSuffix == "":
		return anyKey(suffix("_unencrypted"), false), nil
	case m.UnencryptedSuffix != "":
		return anyKey(suffix(m.UnencryptedSuffix), false), nil
	}
	re, err := regexp.Compile(chosen[0])
	if err != nil {
		return nil, errors.New("its rule for what is encrypted is not a regular expression")
	}
	return anyKey(re.MatchString, m.EncryptedRegex != ""), nil
}
