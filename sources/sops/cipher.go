package sops

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// onlyEncryptedMark begins the code of a file whose code covers encrypted values
// only, so that neither kind can pass for the other. It is the SHA-256 of "sops".
var onlyEncryptedMark = []byte{
	0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
	0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
}

var encrypted = regexp.MustCompile(`^ENC\[AES256_GCM,data:([^,\]]+),iv:([^,\]]+),tag:([^,\]]+),type:([a-z]+)\]$`)

// comment is a value that was a comment before encryption.
type comment struct{}

var errValue = errors.New("is not a value that SOPS encrypted with this key for this place")

// decryptValue decrypts one value. An empty text is encrypted as itself.
func decryptValue(text string, key []byte, place string) (any, error) {
	if text == "" {
		return "", nil
	}
	m := encrypted.FindStringSubmatch(text)
	if m == nil {
		return nil, errors.New("is not encrypted, and by the file's own rule must be")
	}
	var parts [3][]byte
	for i := range parts {
		var err error
		if parts[i], err = base64.StdEncoding.DecodeString(m[i+1]); err != nil {
			return nil, errValue
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("the data key does not have the right length")
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(parts[1]))
	if err != nil || len(parts[2]) != gcm.Overhead() {
		return nil, errValue
	}
	plain, err := gcm.Open(nil, parts[1], append(parts[0], parts[2]...), []byte(place))
	if err != nil {
		return nil, errValue
	}
	return typed(string(plain), m[4])
}

// typed gives a decrypted value the type that it had.
func typed(plain, kind string) (value any, err error) {
	switch kind {
	case "str", "bytes":
		return plain, nil
	case "int":
		value, err = strconv.Atoi(plain)
	case "float":
		value, err = strconv.ParseFloat(plain, 64)
	case "bool":
		value, err = strconv.ParseBool(plain)
	case "time":
		value, err = time.Parse(time.RFC3339Nano, plain)
	case "comment":
		return comment{}, nil
	default:
		return nil, fmt.Errorf("has type %s, which is not known", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("is said to be of type %s and is not", kind)
	}
	return value, nil
}

// authenticated is what the code covers of a value.
func authenticated(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case int:
		return strconv.Itoa(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case time.Time:
		text, err := v.MarshalText()
		return string(text), err
	}
	return "", errors.New("is of a type that SOPS does not know")
}

// opener decrypts the values of a tree in their order.
type opener struct {
	key           []byte
	rule          func(path []string) bool
	mac           hash.Hash
	onlyEncrypted bool
	secrets       [][]byte
}

// value decrypts a node and all below it. Entries of a list share the path of
// the list: so the format has it.
func (o *opener) value(n *node, at []string) error {
	switch n.kind {
	case mapping:
		for _, e := range n.entries {
			if err := o.value(e.value, append(at[:len(at):len(at)], e.key)); err != nil {
				return err
			}
		}
	case list:
		for _, e := range n.entries {
			if err := o.value(e.value, at); err != nil {
				return err
			}
		}
	default:
		if err := o.leaf(n, at); err != nil {
			return fmt.Errorf("%s %w", strings.Join(at, "."), err)
		}
	}
	return nil
}

func (o *opener) leaf(n *node, at []string) error {
	if n.scalar == nil {
		return nil // null is left alone
	}
	secret := o.rule(at)
	if secret {
		text, ok := n.scalar.(string)
		if !ok {
			return errors.New("is not encrypted, and by the file's own rule must be")
		}
		value, err := decryptValue(text, o.key, strings.Join(at, ":")+":")
		if err != nil {
			return err
		}
		n.scalar = value
		if _, dropped := value.(comment); dropped {
			return nil
		}
	}
	text, err := authenticated(n.scalar)
	if err != nil {
		return err
	}
	if secret {
		o.secrets = append(o.secrets, []byte(text))
	}
	if secret || !o.onlyEncrypted {
		o.mac.Write([]byte(text))
	}
	return nil
}
