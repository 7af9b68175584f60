package daemon

import (
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

func TestPagesAreThoseOfTheSourcesRepository(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef01234567"
	follow := func(c config.Source) *follower { return &follower{name: c.Name, config: c, sight: sight{}} }
	d := &daemon{}
	if got := d.Commit("shop", id); got != "" {
		t.Errorf("before the start there is the page %s", got)
	}
	d.now.Store(&generation{followers: map[string]*follower{
		"shop":   follow(config.Source{Name: "shop", URL: "git@github.com:acme/shop.git"}),
		"inside": follow(config.Source{Name: "inside", URL: "https://git.example.org/acme/shop.git", Forge: config.Forge{Kind: "gitea"}}),
		"secret": follow(config.Source{Name: "secret", URL: "https://git.example.org/acme/shop.git"}),
		"local":  follow(config.Source{Name: "local", Dir: "/srv/github.com/acme/shop"}),
	}})
	for source, want := range map[string]string{
		"shop":   "https://github.com/acme/shop/blob/" + id + "/a.yaml#L3",
		"inside": "https://git.example.org/acme/shop/src/commit/" + id + "/a.yaml#L3",
		"secret": "", "local": "", "gone": "",
	} {
		if got := d.File(source, id, "a.yaml", 3); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
		if got := d.Commit(source, id); (got == "") != (want == "") {
			t.Errorf("%s: the commit is at %q", source, got)
		}
		if got := d.Compare(source, id, id[1:]+"0"); (got == "") != (want == "") {
			t.Errorf("%s: the comparison is at %q", source, got)
		}
	}
}
