package sops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// programTimeout bounds one run of the sops program.
const programTimeout = 30 * time.Second

// Program is the sops program, for files whose key a cloud's service keeps. The
// encrypted file names the service, so it is run only for those listed.
type Program struct {
	// Path is the program's file.
	Path string
	// Services are what a file may name: each is a key, or ends in * and stands
	// for all that begin so. Such as arn:aws:kms:eu-west-1:1234:key/*, a GCP
	// resource id, an Azure key's URL or a Vault key's.
	Services []string
	// Environment are the variables handed on, by name: where the program finds
	// its credentials.
	Environment []string
}

// service is one key of a key service that a file names.
type service struct{ kind, key string }

// String is what Services of a Program must cover.
func (s service) String() string { return short(s.key) }

// services are the keys of a file that are neither age's nor OpenPGP's.
func (m metadata) services() []service {
	var out []service
	for _, k := range m.AWS {
		out = append(out, service{"aws", k.ARN})
		// A role or a profile is a second identity that the file chooses.
		if k.Role != "" {
			out = append(out, service{"aws", k.Role})
		}
		if k.Profile != "" {
			out = append(out, service{"aws", "profile:" + k.Profile})
		}
	}
	for _, k := range m.GCP {
		out = append(out, service{"gcp", k.ResourceID})
	}
	for _, k := range m.Azure {
		out = append(out, service{"azure", strings.TrimSuffix(k.VaultURL, "/") + "/keys/" + k.Name})
	}
	for _, k := range m.Vault {
		out = append(out, service{"vault", strings.TrimSuffix(k.VaultAddress, "/") + "/v1/" + k.EnginePath + "/keys/" + k.KeyName})
	}
	for _, k := range m.HuaweiKS {
		out = append(out, service{"huawei", k.KeyID})
	}
	return out
}

// allows says whether a key may be asked for. A dot-dot or a query could lead an
// address elsewhere than its beginning says.
func (p *Program) allows(s service) bool {
	if s.key == "" || strings.Contains(s.key, "..") || strings.ContainsAny(s.key, "?#@%\\ \t\r\n") {
		return false
	}
	return slices.ContainsFunc(p.Services, func(allowed string) bool {
		prefix, wild := strings.CutSuffix(allowed, "*")
		return s.key == allowed || wild && strings.HasPrefix(s.key, prefix)
	})
}

// decrypt runs the program on a file. The file goes in and comes out through
// pipes and is written nowhere.
func (p *Program) decrypt(ctx context.Context, name string, f format, data []byte, m metadata) (Plain, error) {
	for _, s := range m.services() {
		if !p.allows(s) {
			return Plain{}, problem(name, "names the key "+s.String()+", which the daemon's configuration does not allow", "encrypt it for another key, or add this one to decryption.sops.services")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, programTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Path, "decrypt",
		"--input-type", f.String(), "--output-type", f.String(), "--filename-override", "input", "/dev/stdin")
	cmd.Dir = "/"
	cmd.Env = p.environment()
	cmd.Stdin = bytes.NewReader(data)
	cmd.WaitDelay = time.Second
	var out, stderr bounded
	out.limit, stderr.limit = maxBytes, 64<<10
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return Plain{}, fmt.Errorf("decrypt %s: the sops program did not end in time: %w", name, context.Cause(ctx))
		}
		if !errors.As(err, new(*exec.ExitError)) {
			return Plain{}, fmt.Errorf("decrypt %s: run the sops program: %w", name, err)
		}
		return Plain{}, problem(name, "the sops program could not decrypt it: "+lastWords(stderr.String()), "check that the daemon may use the key")
	}
	plain := Plain{Data: out.Bytes()}
	if t, err := parse(f, out.Bytes()); err == nil && f != formatBinary {
		for _, doc := range t.docs {
			plain.Secrets = doc.texts(plain.Secrets)
		}
	} else {
		plain.Secrets = [][]byte{out.Bytes()}
	}
	return plain, nil
}

// environment is as little as the program needs. No gpg is ever run.
func (p *Program) environment() []string {
	env := []string{"PATH=/nonexistent", "HOME=/nonexistent", "SOPS_GPG_EXEC=/nonexistent"}
	for _, name := range p.Environment {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// texts are all the values below a node.
func (n *node) texts(out [][]byte) [][]byte {
	if text, err := authenticated(n.scalar); err == nil && n.kind == scalar {
		return append(out, []byte(text))
	}
	for _, e := range n.entries {
		out = e.value.texts(out)
	}
	return out
}

// lastWords is the last line that says something.
func lastWords(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	for _, line := range slices.Backward(lines) {
		if line = short(strings.TrimSpace(line)); line != "" {
			return line
		}
	}
	return "it said nothing"
}

// bounded keeps the first bytes written to it, and fails the write that would
// add more.
type bounded struct {
	bytes.Buffer
	limit int
}

var errTooMuch = errors.New("the sops program gave too much")

// Write keeps what fits.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, errTooMuch
	}
	return b.Buffer.Write(p)
}
