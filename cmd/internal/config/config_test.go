package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestLoadReadsEverything(t *testing.T) {
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	grants := []Grant{{Target: "default", Namespaces: []string{"*"}, Cluster: true}, {Target: "edge", Namespaces: []string{"shop"}}}
	want := Config{
		Listen: "0.0.0.0:8080", AllowNonLoopback: true, DataDir: here + "/data", Installation: "blue",
		Log:    Log{Level: "debug", Format: "json"},
		Ledger: Ledger{MaxDays: 30, MaxMiB: 64},
		Server: Server{
			TokenFile: here + "/secrets/token", Hosts: []string{"holdfast.example.org"},
			Tokens: []Token{
				{Name: "anna", Role: RoleAdminister, SHA256File: here + "/secrets/anna.sha256"},
				{Name: "ci", Role: RoleOperate, File: here + "/secrets/ci", Environments: []string{"shop-*", "tools"}},
			},
			ReadsNeedToken: true, ChangesPerMinute: 30,
			TLS:        TLS{CertFile: here + "/tls/tls.crt", KeyFile: here + "/tls/tls.key", ClientCAFile: here + "/tls/ca.crt"},
			URL:        "https://holdfast.example.org",
			Kubernetes: Kubernetes{Target: "edge", Audience: "holdfast.example.org"},
			OIDC: OIDC{
				Name: "Example login", Issuer: "https://login.example.org/realm", ClientID: "holdfast", ClientSecretFile: here + "/secrets/oidc",
				CAFile: here + "/ca.pem", Scopes: []string{"email", "teams"}, GroupsClaim: "teams",
				Roles: []OIDCRole{
					{Groups: []string{"sre"}, Role: RoleAdminister},
					{Groups: []string{"shop"}, Users: []string{"ann@example.org"}, Role: RoleOperate, Environments: []string{"shop-*"}},
				},
			},
		},
		Targets: []Target{
			{Name: "default", Kubeconfig: here + "/kube/config", Context: "prod", Namespace: "apps", StateNamespace: "holdfast-state", Concurrency: 5, Events: true, HoldAnnotation: true},
			{Name: "edge", Concurrency: DefaultConcurrency, Events: true, HoldAnnotation: true},
		},
		Sources: []Source{{
			Name: "shop", URL: "https://git.example.org/shop.git", Ref: "main", Interval: time.Minute, Timeout: 10 * time.Second,
			Environments: "deploy/*/env.yaml", Credentials: Credentials{Username: "robot", PasswordFile: "/run/secrets/git"},
			Forge: Forge{Kind: "gitea", Page: "https://git.example.org/team/shop"}, Grants: grants,
		}, {
			Name: "platform", Dir: filepath.Dir(here) + "/platform", Interval: DefaultInterval, Timeout: DefaultTimeout,
			Environments: DefaultEnvironments, Grants: grants,
		}, {
			Name: "artifact", URL: "oci://registry.example.org/team/config", Semver: ">=1.2.0 <2.0.0", CAFile: here + "/ca.pem", Insecure: true,
			Interval: DefaultInterval, Timeout: DefaultTimeout, Environments: DefaultEnvironments,
			Credentials: Credentials{DockerConfigFile: here + "/docker.json"}, Grants: grants,
		}, {
			Name: "signed-in", URL: "git@git.example.org:team/shop.git", Ref: "refs/heads/release/2",
			Interval: DefaultInterval, Timeout: DefaultTimeout, Environments: DefaultEnvironments,
			SSH: SSH{
				KeyFiles: []string{here + "/keys/id"}, PassphraseFile: here + "/keys/passphrase",
				Agent: "/run/agent", KnownHostsFile: here + "/keys/known_hosts",
			},
			Proxy:  Proxy{URL: "socks5://proxy.example.org:1080", Username: "robot", PasswordFile: here + "/keys/proxy"},
			Push:   Push{Branches: "holdfast/*", SSH: SSH{KeyFiles: []string{here + "/keys/push"}}},
			Forge:  Forge{Kind: "gitlab", API: "https://git.example.org/api/v4", TokenFile: "/run/secrets/api", Statuses: true, Deployments: true},
			Grants: grants,
		}, {
			Name: "app", URL: "https://github.com/team/shop.git", Ref: "0123456789abcdef0123456789abcdef01234567",
			Interval: DefaultInterval, Timeout: DefaultTimeout, Environments: DefaultEnvironments,
			CertFile: here + "/tls/cert.pem", KeyFile: here + "/tls/key.pem",
			Credentials: Credentials{GitHubApp: GitHubApp{
				AppID: "123", InstallationID: "456", PrivateKeyFile: here + "/app.pem", BaseURL: "https://github.example.org/api/v3",
			}},
			Grants: grants,
		}, {
			Name: "released", URL: "https://git.example.org/shop.git", Ref: "refs/tags/v1.2.3",
			Interval: DefaultInterval, Timeout: DefaultTimeout, Environments: DefaultEnvironments,
			Credentials: Credentials{BearerTokenFile: "/run/secrets/bearer"}, Grants: grants,
		}},
		Webhooks:   []Webhook{{Name: "forge", Kind: "github", SecretFile: here + "/secrets/forge"}},
		ResyncFile: "/run/holdfast/resync",
		Notifications: Notifications{
			Receivers: []Receiver{
				{Name: "chat", Kind: "slack", URLFile: here + "/secrets/slack"},
				{
					Name: "mail", Kind: "email", Host: "mx.example.org:587", Username: "robot", SecretFile: here + "/secrets/mail",
					From: "holdfast@example.org", To: []string{"ops@example.org"}, CAFile: here + "/ca.pem",
				},
				{Name: "hook", Kind: "webhook", URL: "https://example.org/hook", SecretFile: here + "/secrets/hook", Template: "{{.Title}}"},
			},
			Routes: []Route{{
				Receivers: []string{"chat", "mail"}, Environments: []string{"prod-*"}, Kinds: []string{"failed", "drift"},
				Severity: "high", Labels: []string{"team=shop"},
			}},
			Quiet:  []QuietHours{{From: "22:00", To: "07:00", Days: []string{"mon", "tue"}, Except: "high"}},
			Remind: 4 * time.Hour, Group: 30 * time.Second, Settle: 2 * time.Minute, Digest: "07:30",
			TimeZone: "Europe/Berlin", Link: "https://holdfast.example.org",
		},
	}
	got, err := Load("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadFillsInDefaults(t *testing.T) {
	t.Setenv("HOLDFAST_DATA_DIR", "/data")
	got, err := Load("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	here, _ := filepath.Abs("testdata")
	want := Config{
		Listen: DefaultListen, DataDir: "/data", Installation: DefaultInstallation, Log: Log{Level: "info", Format: "auto"},
		Ledger:  Ledger{MaxDays: DefaultLedgerDays, MaxMiB: DefaultLedgerMiB},
		Server:  Server{ChangesPerMinute: DefaultChangesPerMinute},
		Targets: []Target{{Name: "default", Concurrency: DefaultConcurrency, Events: true, HoldAnnotation: true}},
		Sources: []Source{{
			Name: "shop", URL: "https://git.example.org/shop.git", Interval: DefaultInterval, Timeout: DefaultTimeout,
			Environments: DefaultEnvironments, Credentials: Credentials{TokenFile: here + "/token"},
			Grants: []Grant{{Target: "default", Cluster: true}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each NAME.yaml of the archive is a bad file, and NAME.want all that is said
// about it.
func TestLoadNamesEveryProblemWithItsPlace(t *testing.T) {
	const golden = "testdata/bad.txtar"
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	wants := map[string]int{}
	for i, f := range archive.Files {
		wants[f.Name] = i
	}
	for _, f := range archive.Files {
		name, ok := strings.CutSuffix(f.Name, ".yaml")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			i, ok := wants[name+".want"]
			if !ok {
				t.Fatalf("there is no %s.want", name)
			}
			_, err := decode(f.Name, "/etc/holdfast", f.Data)
			if err == nil {
				t.Fatal("the bad file was accepted")
			}
			got := err.Error() + "\n"
			if *update {
				archive.Files[i].Data = []byte(got)
				return
			}
			if diff := cmp.Diff(string(archive.Files[i].Data), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadSaysWhichFileIsMissing(t *testing.T) {
	_, err := Load("testdata/none.yaml")
	var p sources.Problem
	if !errors.As(err, &p) || p.File != "testdata/none.yaml" || p.Hint == "" {
		t.Errorf("Load = %v", err)
	}
}

func TestImplicitIsOneEnvironment(t *testing.T) {
	t.Setenv("HOLDFAST_DATA_DIR", "/data")
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		o    ImplicitOptions
		want Source
	}{
		{
			name: "a repository",
			o:    ImplicitOptions{Repo: "https://git.example.org/team/Shop.git", Ref: "main", Path: "deploy/prod/"},
			want: Source{
				Name: "shop", URL: "https://git.example.org/team/Shop.git", Ref: "main", Interval: DefaultInterval,
				Implicit: &environment.Spec{Name: "prod", Path: "deploy/prod"},
				Grants:   []Grant{{Target: "default", ContextNamespace: true}},
			},
		},
		{
			name: "its root, with everything granted",
			o:    ImplicitOptions{Repo: "http://127.0.0.1:8000/shop", Grant: GrantCluster, Interval: time.Second},
			want: Source{
				Name: "shop", URL: "http://127.0.0.1:8000/shop", Interval: time.Second,
				Implicit: &environment.Spec{Name: "shop", Path: "."},
				Grants:   []Grant{{Target: "default", Namespaces: []string{"*"}, Cluster: true}},
			},
		},
		{
			name: "a repository over ssh",
			o:    ImplicitOptions{Repo: "git@git.example.org:team/shop.git", Ref: "main"},
			want: Source{
				Name: "shop", URL: "git@git.example.org:team/shop.git", Ref: "main", Interval: DefaultInterval,
				Implicit: &environment.Spec{Name: "shop", Path: "."},
				Grants:   []Grant{{Target: "default", ContextNamespace: true}},
			},
		},
		{
			name: "an artifact",
			o:    ImplicitOptions{Repo: "oci://registry.example.org/team/config", Ref: "v1"},
			want: Source{
				Name: "config", URL: "oci://registry.example.org/team/config", Ref: "v1", Interval: DefaultInterval,
				Implicit: &environment.Spec{Name: "config", Path: "."},
				Grants:   []Grant{{Target: "default", ContextNamespace: true}},
			},
		},
		{
			name: "a directory",
			o:    ImplicitOptions{Repo: dir, Path: "apps"},
			want: Source{
				Name: Slug(filepath.Base(dir)), Dir: dir, Interval: DefaultInterval,
				Implicit: &environment.Spec{Name: "apps", Path: "apps"},
				Grants:   []Grant{{Target: "default", ContextNamespace: true}},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Implicit(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Timeout = DefaultTimeout
			spec := environment.New(tt.want.Implicit.Name)
			spec.Path = tt.want.Implicit.Path
			tt.want.Implicit = &spec
			if diff := cmp.Diff([]Source{tt.want}, c.Sources); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestImplicitRefusesWhatItCannotFollow(t *testing.T) {
	dir := t.TempDir()
	bare := filepath.Join(dir, "bare.git")
	if err := os.MkdirAll(filepath.Join(bare, "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bare, "HEAD"), []byte("ref: refs/heads/main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		o    ImplicitOptions
		want string
	}{
		{ImplicitOptions{}, "--repo is empty"},
		{ImplicitOptions{Repo: "git:hunter2@git.example.org:team/shop.git"}, "holds a password"},
		{ImplicitOptions{Repo: "shop"}, "no existing directory"},
		{ImplicitOptions{Repo: bare}, "is a bare git repository"},
		{ImplicitOptions{Repo: filepath.Join(bare, "HEAD")}, "is a file"},
		{ImplicitOptions{Repo: dir, Ref: "main"}, "has no ref"},
		{ImplicitOptions{Repo: "https://robot:hunter2@git.example.org/shop"}, "holds credentials"},
		{ImplicitOptions{Repo: "oci://robot:hunter2@registry.example.org/x"}, "holds credentials"},
		{ImplicitOptions{Repo: "oci://registry.example.org/x", Ref: "a/b"}, "no valid tag"},
		{ImplicitOptions{Repo: dir, Path: "../etc"}, "leads out"},
		{ImplicitOptions{Repo: dir, Path: "/etc"}, "leads out"},
		{ImplicitOptions{Repo: dir, Grant: "all"}, "allowed are namespace, cluster"},
		{ImplicitOptions{Repo: dir, Interval: time.Millisecond}, "at least 1s"},
	} {
		_, err := Implicit(tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Implicit(%+v) = %v, want %q", tt.o, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

func TestOverridesAreValidatedLikeTheFile(t *testing.T) {
	c, err := Load("testdata/small.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.With(Overrides{Listen: "localhost:9", LogLevel: "warn", DataDir: "/data", Kubeconfig: "/kube", Context: "x", TokenFile: "/token"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Listen != "localhost:9" || got.Log.Level != "warn" || got.DataDir != "/data" || got.Server.TokenFile != "/token" ||
		got.Targets[0].Kubeconfig != "/kube" || got.Targets[0].Context != "x" {
		t.Errorf("With = %+v", got)
	}
	if c.Targets[0].Kubeconfig != "" {
		t.Error("With changed the configuration that it was called on")
	}
	_, err = c.With(Overrides{Listen: ":8080", LogFormat: "xml"})
	want := "--listen \":8080\" can be reached from other machines, and whoever reaches it can read everything unless reads need a token (listen on 127.0.0.1:8080, or say --allow-non-loopback as well)\n" +
		"--log-format \"xml\" is not known (allowed are auto, json, console)"
	if err == nil || err.Error() != want {
		t.Errorf("With = %v\nwant %s", err, want)
	}
}

func TestSlugKeepsNamesApart(t *testing.T) {
	if got := Slug("Prod"); got != "prod" {
		t.Errorf("Slug(Prod) = %q", got)
	}
	long := strings.Repeat("x", 100)
	seen := map[string]string{}
	for _, name := range []string{"a_b", "a.b", "a--b_", "ünicode", "", "___", long, long + "y", "-x"} {
		s := Slug(name)
		if !label.MatchString(s) {
			t.Errorf("Slug(%q) = %q, which is no DNS label", name, s)
		}
		if other, ok := seen[s]; ok {
			t.Errorf("%q and %q are both %q", name, other, s)
		}
		seen[s] = name
	}
}

func TestDefaultDataDirIsFoundInOrder(t *testing.T) {
	t.Setenv("HOLDFAST_DATA_DIR", "/elsewhere")
	if got := DefaultDataDir(); got != "/elsewhere" {
		t.Errorf("DefaultDataDir = %q", got)
	}
	t.Setenv("HOLDFAST_DATA_DIR", "")
	t.Setenv("XDG_STATE_HOME", "/state")
	if got := DefaultDataDir(); got != "/state/holdfast" && got != systemDataDir {
		t.Errorf("DefaultDataDir = %q", got)
	}
	t.Setenv("XDG_STATE_HOME", "relative")
	t.Setenv("HOME", "/home/ann")
	if got := DefaultDataDir(); got != "/home/ann/.local/state/holdfast" && got != systemDataDir {
		t.Errorf("DefaultDataDir = %q", got)
	}
}

func FuzzDecodeNeverPanics(f *testing.F) {
	for _, file := range []string{"testdata/good.yaml", "testdata/small.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: &a [*a]\nsources: *a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decode("x.yaml", "/", data); err != nil && err.Error() == "" {
			t.Error("an error that says nothing")
		}
	})
}
