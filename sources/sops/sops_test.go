package sops_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/sops"
)

func keyring(t testing.TB, program *sops.Program) *sops.Keyring {
	t.Helper()
	k, err := sops.Open([]sops.Key{
		{Name: "team", AgeFile: "testdata/age.key"}, {Name: "old", PGPFile: "testdata/pgp.asc"},
	}, program)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// documents are the values of a file, whatever their form.
func documents(t *testing.T, data []byte) (out []any) {
	t.Helper()
	for _, doc := range bytes.Split(data, []byte("\n---\n")) {
		var v any
		if err := yaml.Unmarshal(doc, &v); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		out = append(out, v)
	}
	return out
}

// TestReadsWhatTheProgramWrote decrypts what the real program encrypted, and
// compares with what that decrypts it to.
func TestReadsWhatTheProgramWrote(t *testing.T) {
	for file, plain := range map[string]string{
		"secret.yaml": "secret.yaml", "types.yaml": "types.yaml", "multi.yaml": "multi.yaml",
		"regex.yaml": "secret.yaml", "unregex.yaml": "secret.yaml", "suffix.yaml": "secret.yaml",
		"maconly.yaml": "secret.yaml", "pgp.yaml": "secret.yaml",
		"config.json": "config.json", "app.env": "app.env", "both.env": "app.env", "tls.key": "tls.key",
	} {
		t.Run(file, func(t *testing.T) {
			data := read(t, file)
			if !sops.Encrypted(file, data) {
				t.Error("is not seen to be encrypted")
			}
			got, err := keyring(t, nil).Decrypt(t.Context(), file, data)
			if err != nil {
				t.Fatal(err)
			}
			want := read(t, "plain/"+plain)
			if ext := filepath.Ext(file); ext != ".yaml" && ext != ".json" {
				want = bytes.ReplaceAll(want, []byte("# comment\n"), nil)
				if diff := cmp.Diff(string(want), string(got.Data)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				return
			}
			if diff := cmp.Diff(documents(t, want), documents(t, got.Data)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if filepath.Ext(file) == ".json" && !json.Valid(got.Data) {
				t.Error("is no JSON")
			}
		})
	}
}

func TestKeysStayOnTheirLines(t *testing.T) {
	got, err := keyring(t, nil).Decrypt(t.Context(), "multi.yaml", read(t, "multi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	encrypted := strings.Split(string(read(t, "multi.yaml")), "\n")
	found := 0
	for i, line := range strings.Split(string(got.Data), "\n") {
		for _, key := range []string{"apiVersion", "stringData", "name"} {
			if strings.Contains(line, `"`+key+`"`) {
				found++
				if !strings.Contains(encrypted[i], key+":") {
					t.Errorf("%s moved to line %d", key, i+1)
				}
			}
		}
	}
	if found != 6 {
		t.Errorf("%d keys found in\n%s", found, got.Data)
	}
}

func TestSecretsAreTold(t *testing.T) {
	got, err := keyring(t, nil).Decrypt(t.Context(), "regex.yaml", read(t, "regex.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	all := string(bytes.Join(got.Secrets, []byte("|")))
	if !strings.Contains(all, "hunter2-correct-horse") || strings.Contains(all, "Secret") {
		t.Errorf("secrets are %q", all)
	}
}

// TestRefused holds every way in which a file can be wrong, with the words that
// people get. None may tell a value.
func TestRefused(t *testing.T) {
	secret, regex := string(read(t, "secret.yaml")), string(read(t, "regex.yaml"))
	for _, c := range []struct{ name, file, data, want string }{
		{"other key", "a.yaml", string(read(t, "other.yaml")), "none of the keys (team, old) decrypts it"},
		{"key groups", "a.yaml", string(read(t, "groups.yaml")), "a.yaml: its data key is split over 2 key groups, and files with one group are read"},
		{"comment rules", "a.yaml", string(read(t, "comment.yaml")), "a.yaml: comments choose what is encrypted in it, which is not read: use encrypted_regex"},
		{"INI", "c.ini", string(read(t, "c.ini")), "c.ini: is an encrypted INI file, which is not read (keep it as YAML, JSON or .env)"},
		{"changed clear value", "a.yaml", strings.Replace(regex, "name: db", "name: evil", 1), "a.yaml: was changed after it was encrypted: its authentication code does not match (edit it with sops, which keeps the code)"},
		{"changed ciphertext", "a.yaml", strings.Replace(secret, "data:0mxta", "data:0mxtb", 1), "a.yaml: stringData.password is not a value that SOPS encrypted with this key for this place"},
		{"value moved", "a.yaml", strings.Replace(secret, "    password:", "    passwort:", 1), "a.yaml: stringData.passwort is not a value that SOPS encrypted with this key for this place"},
		{"value in the clear", "a.yaml", strings.Replace(secret, `empty: ""`, "empty: hunter2", 1), "a.yaml: stringData.empty is not encrypted, and by the file's own rule must be"},
		{"number in the clear", "a.yaml", strings.Replace(secret, `empty: ""`, "empty: 7", 1), "a.yaml: stringData.empty is not encrypted, and by the file's own rule must be"},
		{"unknown type", "a.yaml", strings.Replace(secret, "type:str]\nkind", "type:xyz]\nkind", 1), "a.yaml: apiVersion has type xyz, which is not known"},
		{"no code", "a.yaml", strings.Replace(secret, "    mac:", "    mack:", 1), "a.yaml: has no authentication code (sops.mac)"},
		{"code of another time", "a.yaml", strings.Replace(secret, `lastmodified: "2026-`, `lastmodified: "2025-`, 1), "a.yaml: sops.mac cannot be decrypted (somebody changed the file without sops; decrypt an earlier version and encrypt it again)"},
		{"no metadata", "a.yaml", "a: ENC[AES256_GCM,data:x]\n", "a.yaml: is not encrypted with SOPS: it has no mapping sops"},
		{"not YAML", "a.yaml", "a: [", "a.yaml: cannot be read as a file of SOPS: it is not YAML"},
		{"a list", "a.yaml", "- a\n", "a.yaml: cannot be read as a file of SOPS: line 1: a document must be a mapping"},
		{"key twice", "a.yaml", "a: 1\na: 2\n", "a.yaml: cannot be read as a file of SOPS: line 2: a key is not text, or is there twice"},
		{"not JSON", "a.json", "{", "a.json: cannot be read as a file of SOPS: it is not JSON"},
		{"JSON key twice", "a.json", `{"a":1,"a":2}`, "a.json: cannot be read as a file of SOPS: line 1: a key is there twice"},
		{"not KEY=VALUE", "a.env", "hunter2\n", "a.env: cannot be read as a file of SOPS: line 1: is not KEY=VALUE"},
		{"alias bomb", "a.yaml", bomb(), "a.yaml: cannot be read as a file of SOPS: it has too many entries"},
		{"deep", "a.json", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), "a.json: cannot be read as a file of SOPS: it nests too deep"},
		{"large", "a.yaml", strings.Repeat("a", 17<<20), "a.yaml: is 17825792 bytes, and at most 16777216 are decrypted"},
		{"two rules", "a.yaml", strings.Replace(secret, "    unencrypted_suffix: _unencrypted", "    unencrypted_suffix: _u\n    encrypted_suffix: _e", 1), "a.yaml: has more than one rule for what is encrypted"},
		{"cloud key", "a.yaml", cloud(secret, "arn:aws:kms:eu-west-1:1:key/x"), "a.yaml: is encrypted for arn:aws:kms:eu-west-1:1:key/x, and the daemon's configuration names no sops program for key services"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := keyring(t, nil).Decrypt(t.Context(), c.file, []byte(c.data))
			if err == nil {
				t.Fatalf("decrypted to %s", got.Data)
			}
			if !strings.Contains(err.Error(), c.want) || !errors.As(err, new(sources.Problem)) {
				t.Errorf("error %v", err)
			}
			for _, value := range []string{"hunter2", "correct-horse", "evil"} {
				if strings.Contains(err.Error(), value) {
					t.Errorf("a value is told: %v", err)
				}
			}
		})
	}
}

func bomb() string {
	s := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		s += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ",") + "]\n"
	}
	return s
}

// cloud is a file whose key a cloud keeps instead of age.
func cloud(text, arn string) string {
	before, _, _ := strings.Cut(text, "    age:\n")
	_, after, _ := strings.Cut(text, "    lastmodified:")
	return before + "    kms:\n        - arn: " + arn + "\n          enc: AQICAH\n          aws_profile: \"\"\n    lastmodified:" + after
}

func TestKeyFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	public := filepath.Join(dir, "public")
	if err := os.WriteFile(public, []byte("age12dgs38cv2ru4vrg8lr6adtel8xej2kqzl5fmpnd5kxerqggpcvqqnrpsna\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  sops.Key
		want string
	}{
		{sops.Key{Name: "k", AgeFile: public}, "key k: " + public + " holds no age identities, or something beside them"},
		{sops.Key{Name: "k", PGPFile: public}, "key k: " + public + " is not an armored OpenPGP key"},
		{sops.Key{Name: "k", AgeFile: dir}, "key k: " + dir + " is not a file"},
		{sops.Key{Name: "k", AgeFile: dir + "/none"}, "key k: open " + dir + "/none: no such file or directory"},
	} {
		if _, err := sops.Open([]sops.Key{c.key}, nil); err == nil || err.Error() != c.want {
			t.Errorf("error %v, not %s", err, c.want)
		}
	}
}

// program writes a stand-in for the sops program, which answers with what it was
// called with.
func program(t *testing.T, script string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sops")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestProgramIsCalledWithFixedArguments(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("SOMETHING_ELSE", "x")
	file := program(t, "cat >/dev/null 2>&1 </dev/stdin || :\nprintf 'args: \"%s\"\\n' \"$*\"\nprintf 'env: \"%s\"\\n' \"$AWS_REGION$SOMETHING_ELSE$PATH\"\n")
	p := &sops.Program{Path: file, Services: []string{"arn:aws:kms:eu-west-1:1:key/*"}, Environment: []string{"AWS_REGION"}}
	data := []byte(cloud(string(read(t, "secret.yaml")), "arn:aws:kms:eu-west-1:1:key/x"))
	got, err := keyring(t, p).Decrypt(t.Context(), "a.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	want := "args: \"decrypt --input-type yaml --output-type yaml --filename-override input /dev/stdin\"\nenv: \"eu-west-1/nonexistent\"\n"
	if string(got.Data) != want {
		t.Errorf("got %s", got.Data)
	}
	if len(got.Secrets) != 2 {
		t.Errorf("secrets %q", got.Secrets)
	}
}

func TestProgramIsNotCalledForOtherServices(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ran")
	p := &sops.Program{Path: program(t, "touch "+mark+"\n"), Services: []string{"arn:aws:kms:eu-west-1:1:key/*", "https://vault.example.com/*"}}
	for _, arn := range []string{
		"arn:aws:kms:eu-west-1:2:key/x", "arn:aws:kms:eu-west-1:1:key/../x", "'arn:aws:kms:eu-west-1:1:key/x?y'",
	} {
		_, err := keyring(t, p).Decrypt(t.Context(), "a.yaml", []byte(cloud(string(read(t, "secret.yaml")), arn)))
		if err == nil || !strings.Contains(err.Error(), "which the daemon's configuration does not allow") {
			t.Errorf("%s: error %v", arn, err)
		}
	}
	for _, fields := range []string{"role: arn:aws:iam::1:role/admin", "aws_profile: other"} {
		text := strings.Replace(cloud(string(read(t, "secret.yaml")), "arn:aws:kms:eu-west-1:1:key/x"), "aws_profile: \"\"", fields, 1)
		if _, err := keyring(t, p).Decrypt(t.Context(), "a.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "does not allow") {
			t.Errorf("%s: error %v", fields, err)
		}
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Error("the program was run")
	}
}

func TestProgramThatFails(t *testing.T) {
	p := &sops.Program{Path: program(t, "echo 'AccessDenied: no' >&2\nexit 1\n"), Services: []string{"arn:*"}}
	_, err := keyring(t, p).Decrypt(t.Context(), "a.yaml", []byte(cloud(string(read(t, "secret.yaml")), "arn:x")))
	if err == nil || err.Error() != "a.yaml: the sops program could not decrypt it: AccessDenied: no (check that the daemon may use the key)" {
		t.Errorf("error %v", err)
	}
	p.Path = "/nonexistent/sops"
	_, err = keyring(t, p).Decrypt(t.Context(), "a.yaml", []byte(cloud(string(read(t, "secret.yaml")), "arn:x")))
	if err == nil || errors.As(err, new(sources.Problem)) {
		t.Errorf("error %v, which must not be blamed on the file", err)
	}
}

func TestKeyringsAreToldApart(t *testing.T) {
	a, b := keyring(t, nil), keyring(t, &sops.Program{Path: "/x"})
	if a.ID() == b.ID() || a.ID() != keyring(t, nil).ID() {
		t.Error("ids do not tell key rings apart")
	}
}

func FuzzDecrypt(f *testing.F) {
	for _, name := range []string{"secret.yaml", "types.yaml", "multi.yaml", "config.json", "app.env", "tls.key", "groups.yaml"} {
		f.Add(name, string(read(f, name)))
	}
	f.Add("a.yaml", bomb())
	f.Add("a.env", "sops_age__list_0__map_enc=x\nsops_=\nsops___list_\n")
	k := keyring(f, nil)
	f.Fuzz(func(t *testing.T, name, data string) {
		sops.Encrypted(name, []byte(data))
		if got, err := k.Decrypt(t.Context(), name, []byte(data)); err == nil && len(got.Data) > 64*len(data)+64 {
			t.Errorf("%d bytes became %d", len(data), len(got.Data))
		}
	})
}

func TestPlaceholderKeepsAllButSecrets(t *testing.T) {
	for file, want := range map[string]string{
		"regex.yaml":  `"kind": "Secret",`,
		"types.yaml":  `"int": 0,`,
		"config.json": `"port": 0,`,
		"app.env":     "USER=ZW5jcnlwdGVk\n",
		"tls.key":     "ZW5jcnlwdGVk",
	} {
		got, err := sops.Placeholder{}.Decrypt(t.Context(), file, read(t, file))
		if err != nil || !strings.Contains(string(got.Data), want) || strings.Contains(string(got.Data), "ENC[") {
			t.Errorf("%s: error %v, got %s", file, err, got.Data)
		}
	}
	if _, err := (sops.Placeholder{}).Decrypt(t.Context(), "a.yaml", []byte("a: ENC[AES256_GCM,x\n")); err == nil {
		t.Error("takes a file without metadata")
	}
}
