package config

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// All that the file says about reaching a repository arrives where it is used.
func TestGitOptions(t *testing.T) {
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load("testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]gitrepo.Options{
		"shop": {
			URL: "https://git.example.org/shop.git", Ref: "main", Timeout: 10 * time.Second,
			Username: "robot", PasswordFile: "/run/secrets/git",
		},
		"signed-in": {
			URL: "git@git.example.org:team/shop.git", Ref: "refs/heads/release/2", Timeout: DefaultTimeout,
			SSH: gitrepo.SSH{
				KeyFiles: []string{here + "/keys/id"}, PassphraseFile: here + "/keys/passphrase",
				Agent: "/run/agent", KnownHostsFile: here + "/keys/known_hosts",
			},
			Proxy: gitrepo.Proxy{URL: "socks5://proxy.example.org:1080", Username: "robot", PasswordFile: here + "/keys/proxy"},
		},
		"app": {
			URL: "https://github.com/team/shop.git", Ref: "0123456789abcdef0123456789abcdef01234567", Timeout: DefaultTimeout,
			CertFile: here + "/tls/cert.pem", KeyFile: here + "/tls/key.pem",
			GitHubApp: &gitrepo.GitHubApp{ID: "123", Installation: "456", KeyFile: here + "/app.pem", BaseURL: "https://github.example.org/api/v3"},
		},
		"released": {
			URL: "https://git.example.org/shop.git", Ref: "refs/tags/v1.2.3", Timeout: DefaultTimeout,
			BearerFile: "/run/secrets/bearer",
		},
	}
	seen := 0
	for _, s := range c.Sources {
		o, ok := want[s.Name]
		if !ok {
			continue
		}
		seen++
		o.Name = s.Name
		if diff := cmp.Diff(o, s.Git()); diff != "" {
			t.Error(diff)
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d sources are in the file", seen, len(want))
	}
}

func TestSSHAddresses(t *testing.T) {
	for raw, want := range map[string]bool{
		"git@host:team/x.git": true, "host:x": true, "ssh://host/x": true, "SSH://host/x": true,
		"https://host/x": false, "host/x:y": false, "x": false, "C:/x": false, "oci://host/x": false, "": false,
	} {
		if got := isSSH(raw); got != want {
			t.Errorf("isSSH(%q) = %t", raw, got)
		}
	}
}
