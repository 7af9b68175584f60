package render

import (
	"errors"
	"fmt"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/sops"
)

// plain is the content of a file without its encryption, if it has one. A file
// that stays encrypted is a problem: its text would be applied as the secret.
func (r *recorder) plain(name string) ([]byte, error) {
	data, err := r.read(name)
	if err != nil || !sops.Encrypted(name, data) {
		return data, err
	}
	return r.decrypt(name, data)
}

func (r *recorder) decrypt(name string, data []byte) ([]byte, error) {
	if r.decrypter == nil {
		return nil, sources.Problem{
			File: name, Message: "is encrypted with SOPS, and the environment names no keys",
			Hint: "name them under spec.decryption.sops.keys",
		}
	}
	plain, err := r.decrypter.Decrypt(r.ctx, name, data)
	if err != nil {
		return nil, err
	}
	r.redactor.Add(plain.Secrets...)
	r.secrets.Add(plain.Secrets...)
	return plain.Data, nil
}

// decryption is what the reading of manifests needs of decrypt.
func (r *recorder) decryption() func(name string, data []byte) (plain []byte, encrypted bool, err error) {
	return func(name string, data []byte) ([]byte, bool, error) {
		if !sops.Encrypted(name, data) {
			return data, false, nil
		}
		plain, err := r.decrypt(name, data)
		return plain, true, err
	}
}

// marked are the items, those with a decrypted value in them marked as
// sensitive, wherever it got in.
func (r *recorder) marked(items []sources.Item) []sources.Item {
	if r.secrets.Empty() {
		return items
	}
	for i := range items {
		if !items[i].Sensitive && r.secrets.Contains(items[i].Body) {
			items[i].Sensitive = true
		}
	}
	return items
}

// scrubbed is an error without decrypted values.
func (r *Renderer) scrubbed(err error, rec *recorder) error {
	if err == nil || rec.secrets.Empty() {
		return err
	}
	scrub := func(p *sources.Problem) {
		p.Object = rec.secrets.Scrub(p.Object)
		p.Message, p.Hint = rec.secrets.Scrub(p.Message), rec.secrets.Scrub(p.Hint)
	}
	var many sources.Problems
	if errors.As(err, &many) {
		out := make(sources.Problems, len(many))
		for i, p := range many {
			scrub(&p)
			out[i] = p
		}
		return out
	}
	var one sources.Problem
	if errors.As(err, &one) {
		scrub(&one)
		return one
	}
	if text := err.Error(); rec.secrets.Scrub(text) != text {
		return fmt.Errorf("%s", rec.secrets.Scrub(text))
	}
	return err
}
