package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sourceWithKeys = "sources: [{name: a, url: https://git.example.com/a.git, keys: [KEYS]}]\n"

func loadText(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	return c, err
}

func TestRendering(t *testing.T) {
	c, err := loadText(t, strings.Replace(sourceWithKeys, "KEYS", "team, kms", 1)+`
charts:
  registries:
  - {url: oci://ghcr.io/org, username: robot, passwordFile: /run/password, insecure: true}
  - url: https://charts.example.com
decryption:
  sops:
    program: /usr/bin/sops
    keys:
    - {name: team, ageFile: /run/team.age}
    - {name: old, pgpFile: /run/old.asc}
    - {name: kms, services: ["arn:aws:kms:eu-west-1:1:key/*"], environment: [AWS_REGION]}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := Decryption{SOPS: SOPS{Program: "/usr/bin/sops", Keys: []SOPSKey{
		{Name: "team", AgeFile: "/run/team.age"}, {Name: "old", PGPFile: "/run/old.asc"},
		{Name: "kms", Services: []string{"arn:aws:kms:eu-west-1:1:key/*"}, Environment: []string{"AWS_REGION"}},
	}}}
	if diff := cmp.Diff(want, c.Decryption); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(c.Charts.Registries) != 2 || c.Charts.Registries[0] != (ChartRegistry{URL: "oci://ghcr.io/org", Username: "robot", PasswordFile: "/run/password", Insecure: true}) {
		t.Errorf("charts %+v", c.Charts)
	}
	if k, ok := c.Decryption.SOPS.Key("old"); !ok || k.PGPFile == "" {
		t.Error("a key is not found")
	}
}

func TestRenderingThatIsWrong(t *testing.T) {
	_, err := loadText(t, strings.Replace(sourceWithKeys, "KEYS", "taem", 1)+`
charts:
  registries:
  - {username: robot}
  - {url: "https://user:pw@example.com"}
  - {url: "https://example.com", username: robot}
  - {url: "https://example.com", insecure: true}
  - {url: "ftp://example.com"}
decryption:
  sops:
    keys:
    - {name: team, ageFile: a, pgpFile: b}
    - {name: team, ageFile: a}
    - {name: none}
    - {name: env, ageFile: a, environment: [A]}
    - {name: kms, services: [x]}
    - {name: Not_A_Name, ageFile: a}
`)
	if err == nil {
		t.Fatal("is taken")
	}
	for _, want := range []string{
		`source "a" is granted the key "taem", which there is not (did you mean team?)`,
		"charts.registries[0] has no url (such as oci://ghcr.io/org/charts)",
		"charts.registries[1].url must be oci://, https:// or http:// with a host, without credentials or a query (credentials go into username and passwordFile)",
		"charts.registries[2] needs both username and passwordFile, or neither",
		"charts.registries[3].insecure is for oci:// only (write http:// if that is meant)",
		"charts.registries[4].url must be oci://, https:// or http:// with a host",
		"decryption.sops.keys[0] needs one of ageFile, pgpFile and services",
		`decryption.sops.keys[1].name "team" is already used at line`,
		"decryption.sops.keys[2] needs one of ageFile, pgpFile and services",
		"decryption.sops.keys[3].environment goes with services (no program is run for the others)",
		"decryption.sops.keys[4] names services, and decryption.sops.program is not set (name the file of the sops program)",
		`decryption.sops.keys[5].name "Not_A_Name" is not a valid name`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say: %s", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}
