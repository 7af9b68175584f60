package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
)

// What the daemon's file says about keys, servers and proxies is what a source is
// reached with.
func TestSourceIsReachedAsTheFileSays(t *testing.T) {
	server := gitserver.Start(t)
	ssh := gitserver.StartSSH(t, server)
	proxy := gitserver.StartProxy(t, true)
	proxy.RequireAuth("robot", "hunter22")
	repo := server.Repo(t, "shop")
	commit := repo.Commit(t, map[string]string{
		"environments/shop.yaml": head + "shop}\nspec: {path: app}\n",
		"app/cm.yaml":            configMap("x", "1"),
	})
	repo.Tag(t, "v1.4.0", commit, "released")
	repo.Commit(t, map[string]string{"app/cm.yaml": configMap("x", "2")})

	dir := t.TempDir()
	ssh.Authorize(gitserver.WriteKey(t, filepath.Join(dir, "key"), "correct horse"))
	known, err := os.ReadFile(ssh.KnownHosts(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"known_hosts": string(known), "passphrase": "correct horse\n", "proxy": "hunter22\n",
		"holdfast.yaml": fmt.Sprintf(`
dataDir: data
sources:
  - name: shop
    url: %s
    semver: ^1.2
    ssh: {keyFile: key, passphraseFile: passphrase, knownHostsFile: known_hosts}
    proxy: {url: %q, username: robot, passwordFile: proxy}
    grants: [{namespaces: [shop]}]
`, ssh.URL(repo), proxy.URL),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(filepath.Join(dir, "holdfast.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, cfg.Sources...)
	if got := b.after("shop"); !strings.HasPrefix(got, "shop "+at("v1.4.0", commit)) || !strings.Contains(got, `"a":"1"`) {
		t.Errorf("the environments are %s, %v", got, b.followers["shop"].standing)
	}
	if len(ssh.Logins()) != 1 || len(proxy.Targets()) != 1 {
		t.Errorf("%d logins through %d connections of the proxy", len(ssh.Logins()), len(proxy.Targets()))
	}
	if s := b.followers["shop"].status(); strings.Contains(s.URL, "git@") || s.Failures != 0 {
		t.Errorf("the status is %+v", s)
	}
	ssh.SetHostKeys(gitserver.NewSigner(t))
	b.after("shop")
	s := b.followers["shop"].status()
	if s.Failures != 1 || s.Revision.ID != commit || !strings.Contains(s.LastError, "host key is not the known one") {
		t.Errorf("with another host key the status is %+v", s)
	}
}
