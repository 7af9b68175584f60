package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxSecrets bounds the file of secrets, minSecret what counts as one.
	maxSecrets = 4 << 10
	minSecret  = 8
	// tolerance is how far a sender's clock may be off.
	tolerance = 5 * time.Minute
)

// readSecrets reads the file for each call, so that a rotated secret counts at
// once. Each line is a secret.
func readSecrets(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecrets+1))
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	if len(data) > maxSecrets {
		return nil, fmt.Errorf("secret file %s is too large", file)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
		case len(line) < minSecret:
			return nil, fmt.Errorf("a secret in %s is shorter than %d characters", file, minSecret)
		default:
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("secret file %s is empty", file)
	}
	return out, nil
}

var (
	wrongSignature = refusal{http.StatusUnauthorized, Refused, "the signature is missing or wrong"}
	wrongToken     = refusal{http.StatusUnauthorized, Refused, "the token is missing or wrong"}
	wrongTime      = refusal{http.StatusUnauthorized, Refused, "the time of the call is missing, or too far from now"}
)

// signed checks that a header holds the HMAC-SHA256 of the body, as hex.
func signed(headers ...string) func(http.Header, []byte, []string, time.Time) error {
	return func(h http.Header, body []byte, secrets []string, _ time.Time) error {
		for _, name := range headers {
			if given := h.Get(name); given != "" {
				return checkMAC(given, secrets, body)
			}
		}
		return wrongSignature
	}
}

func checkMAC(given string, secrets []string, parts ...[]byte) error {
	mac, err := hex.DecodeString(strings.TrimPrefix(given, "sha256="))
	if err != nil {
		return wrongSignature
	}
	ok := 0
	for _, secret := range secrets {
		h := hmac.New(sha256.New, []byte(secret))
		for _, p := range parts {
			h.Write(p)
		}
		ok |= subtle.ConstantTimeCompare(h.Sum(nil), mac)
	}
	if ok != 1 {
		return wrongSignature
	}
	return nil
}

// equal compares hashes, so that neither content nor length of a token shows in
// the time it takes.
func equal(given string, secrets []string) error {
	ok, a := 0, sha256.Sum256([]byte(given))
	for _, secret := range secrets {
		b := sha256.Sum256([]byte(secret))
		ok |= subtle.ConstantTimeCompare(a[:], b[:])
	}
	if ok != 1 || given == "" {
		return wrongToken
	}
	return nil
}

// header checks a token in a header.
func header(name string) func(http.Header, []byte, []string, time.Time) error {
	return func(h http.Header, _ []byte, secrets []string, _ time.Time) error {
		return equal(h.Get(name), secrets)
	}
}

func bearer(h http.Header, _ []byte, secrets []string, _ time.Time) error {
	scheme, given, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return wrongToken
	}
	return equal(strings.TrimSpace(given), secrets)
}

// basic checks a password, or where the secret has the form user:password, both.
func basic(h http.Header, _ []byte, secrets []string, _ time.Time) error {
	scheme, given, _ := strings.Cut(h.Get("Authorization"), " ")
	pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(given))
	if !strings.EqualFold(scheme, "Basic") || err != nil {
		return wrongToken
	}
	_, password, ok := strings.Cut(string(pair), ":")
	if !ok {
		return wrongToken
	}
	if equal(string(pair), secrets) == nil {
		return nil
	}
	return equal(password, secrets)
}

// timed checks our own form: an HMAC over the time, a dot and the body.
func timed(h http.Header, body []byte, secrets []string, now time.Time) error {
	stamp := h.Get("X-Holdfast-Timestamp")
	if err := checkMAC(h.Get("X-Holdfast-Signature"), secrets, []byte(stamp+"."), body); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return wrongTime
	}
	return nil
}
