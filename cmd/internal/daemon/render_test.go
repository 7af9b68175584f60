package daemon

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// TestKeysAreGranted asks for keys that a source has and has not.
func TestKeysAreGranted(t *testing.T) {
	file, err := filepath.Abs("../../../sources/sops/testdata/age.key")
	if err != nil {
		t.Fatal(err)
	}
	all := config.SOPS{Program: "/usr/bin/sops", Keys: []config.SOPSKey{
		{Name: "team", AgeFile: file}, {Name: "other", AgeFile: file}, {Name: "kms", Services: []string{"arn:*"}},
	}}
	source := config.Source{Name: "shop", Keys: []string{"team", "kms"}}
	spec := environment.New("prod")
	spec.File, spec.Line = "environments/prod.yaml", 1
	open := func(source config.Source, keys ...string) (string, error) {
		spec.Decryption = &environment.Decryption{SOPS: &environment.SOPS{Keys: keys}}
		k, err := keyring(all, source, spec)
		if err != nil {
			return "", err
		}
		return k.ID(), nil
	}
	one, err := open(source, "team")
	if err != nil {
		t.Fatal(err)
	}
	both, err := open(source, "team", "kms")
	if err != nil || both == one {
		t.Errorf("with the service's key: error %v, same id %v", err, both == one)
	}
	for _, c := range []struct {
		source config.Source
		key    string
		want   string
	}{
		{source, "other", `environments/prod.yaml:1: spec.decryption.sops.keys: source "shop" has no key "other" (it has team, kms)`},
		{source, "none", `source "shop" has no key "none" (it has team, kms)`},
		{config.Source{Name: "shop"}, "team", `source "shop" has no key "team" (the daemon's configuration grants it none: add it under sources[].keys)`},
	} {
		_, err := open(c.source, c.key)
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, new(sources.Problems)) {
			t.Errorf("%s: error %v", c.key, err)
		}
	}
	all.Keys[0].AgeFile = "/nonexistent"
	if _, err := open(source, "team"); err == nil || errors.As(err, new(sources.Problems)) {
		t.Errorf("error %v, which must not be blamed on the spec", err)
	}
}
