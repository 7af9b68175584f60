package forge

import (
	"strings"
	"testing"
)

const (
	id    = "0123456789abcdef0123456789abcdef01234567"
	older = "89abcdef0123456789abcdef0123456789abcdef"
)

// pages are those that each host has, as its documentation and its own links say.
var pages = []struct {
	kind, git string
	page      string
	commit    string
	file      string
	compare   string
	pull      string
}{
	{
		"github", "https://github.com/acme/shop.git", "https://github.com/acme/shop",
		"/commit/" + id, "/blob/" + id + "/apps/web%20a/d.yaml#L7", "/compare/" + older + "..." + id, "/compare/main...holdfast/fix?expand=1",
	},
	{
		"gitlab", "git@gitlab.com:acme/team/shop.git", "https://gitlab.com/acme/team/shop",
		"/-/commit/" + id, "/-/blob/" + id + "/apps/web%20a/d.yaml#L7", "/-/compare/" + older + "..." + id,
		"/-/merge_requests/new?merge_request%5Bsource_branch%5D=holdfast%2Ffix&merge_request%5Btarget_branch%5D=main",
	},
	{
		"gitea", "ssh://git@codeberg.org:2222/acme/shop.git", "https://codeberg.org/acme/shop",
		"/commit/" + id, "/src/commit/" + id + "/apps/web%20a/d.yaml#L7", "/compare/" + older + "..." + id, "/compare/main...holdfast/fix",
	},
	{
		"bitbucket", "https://ann@bitbucket.org/acme/shop.git", "https://bitbucket.org/acme/shop",
		"/commits/" + id, "/src/" + id + "/apps/web%20a/d.yaml#lines-7", "/branches/compare/" + id + "%0D" + older + "#diff",
		"/pull-requests/new?source=holdfast%2Ffix&dest=main",
	},
	{
		"bitbucket-server", "https://git.example.org/bitbucket/scm/SHOP/web.git", "https://git.example.org/bitbucket/projects/SHOP/repos/web",
		"/commits/" + id, "/browse/apps/web%20a/d.yaml?at=" + id + "#7", "/compare/diff?sourceBranch=" + id + "&targetBranch=" + older,
		"/pull-requests?create&sourceBranch=refs%2Fheads%2Fholdfast%2Ffix&targetBranch=refs%2Fheads%2Fmain",
	},
	{
		"azure-devops", "https://acme@dev.azure.com/acme/My%20Shop/_git/web", "https://dev.azure.com/acme/My%20Shop/_git/web",
		"/commit/" + id, "?path=%2Fapps%2Fweb+a%2Fd.yaml&version=GC" + id + "&line=7&lineEnd=8&lineStartColumn=1&lineEndColumn=1&_a=contents",
		"/branchCompare?baseVersion=GC" + older + "&targetVersion=GC" + id + "&_a=files", "/pullrequestcreate?sourceRef=holdfast%2Ffix&targetRef=main",
	},
}

func TestEachHostHasItsPages(t *testing.T) {
	for _, c := range pages {
		r, ok := Locate(c.git, c.kind, "")
		if !ok || r.Page != c.page || string(r.Kind) != c.kind {
			t.Errorf("%s: %+v, %t", c.git, r, ok)
			continue
		}
		for got, want := range map[string]string{
			r.Commit(id): c.commit, r.File(id, "apps/web a/d.yaml", 7): c.file, r.Compare(older, id): c.compare, r.PullRequest("holdfast/fix", "main"): c.pull,
		} {
			if got != c.page+want {
				t.Errorf("%s:\n got %s\nwant %s%s", c.kind, got, c.page, want)
			}
			if !Web(got) {
				t.Errorf("%s is not an address of the web", got)
			}
		}
	}
}

func TestTheRepositoryIsFoundInEveryFormOfAddress(t *testing.T) {
	for address, want := range map[string]string{
		"https://github.com/acme/shop":                                  "github https://github.com/acme/shop",
		"https://user:secret@github.com/acme/shop.git/":                 "github https://github.com/acme/shop",
		"git@github.com:acme/shop.git":                                  "github https://github.com/acme/shop",
		"ssh://git@ssh.github.com:443/acme/shop.git":                    "github https://github.com/acme/shop",
		"https://acme.ghe.com/team/shop.git":                            "github https://acme.ghe.com/team/shop",
		"ssh://git@altssh.gitlab.com:443/a/b/c/shop.git":                "gitlab https://gitlab.com/a/b/c/shop",
		"git@bitbucket.org:acme/shop.git":                               "bitbucket https://bitbucket.org/acme/shop",
		"git@ssh.dev.azure.com:v3/acme/My Shop/web":                     "azure-devops https://dev.azure.com/acme/My%20Shop/_git/web",
		"acme@vs-ssh.visualstudio.com:v3/acme/shop/web":                 "azure-devops https://dev.azure.com/acme/shop/_git/web",
		"https://acme.visualstudio.com/DefaultCollection/shop/_git/web": "azure-devops https://dev.azure.com/acme/shop/_git/web",
		"https://dev.azure.com/acme/_git/web":                           "azure-devops https://dev.azure.com/acme/web/_git/web",
	} {
		if r, ok := Locate(address, "", ""); !ok || string(r.Kind)+" "+r.Page != want {
			t.Errorf("%s: got %s %s, want %s", address, r.Kind, r.Page, want)
		}
	}
	for _, c := range [][3]string{
		{"gitlab", "https://git.example.org:8443/group/sub/shop.git", "https://git.example.org:8443/group/sub/shop"},
		{"gitea", "http://127.0.0.1:3000/forge/acme/shop.git", "http://127.0.0.1:3000/forge/acme/shop"},
		{"gitea", "ssh://git@[::1]:2222/acme/shop.git", "https://[::1]/acme/shop"},
		{"github", "git@git.example.org:acme/shop.git", "https://git.example.org/acme/shop"},
		{"bitbucket-server", "ssh://git@git.example.org:7999/~ann/web.git", "https://git.example.org/users/ann/repos/web"},
		{"azure-devops", "https://tfs.example.org/tfs/Main/shop/_git/web", "https://tfs.example.org/tfs/Main/shop/_git/web"},
	} {
		if r, ok := Locate(c[1], c[0], ""); !ok || r.Page != c[2] {
			t.Errorf("%s at %s: got %s, want %s", c[1], c[0], r.Page, c[2])
		}
	}
	r, ok := Locate("git@10.0.0.7:acme/shop.git", "gitea", "https://git.example.org/x/acme/shop/")
	if got := r.Commit(id); !ok || got != "https://git.example.org/x/acme/shop/commit/"+id {
		t.Errorf("a page that is given: %s", got)
	}
}

func TestNoLinkLeadsWhereItShouldNot(t *testing.T) {
	for _, c := range [][3]string{
		{"https://git.example.org/acme/shop.git", "", ""},
		{"https://evil-github.com/acme/shop.git", "", ""},
		{"https://github.com.evil.example/acme/shop.git", "", ""},
		{"https://github.com/acme/shop.git", "sourcehut", ""},
		{"https://github.com/acme", "", ""},
		{"https://github.com/acme/../shop", "", ""},
		{"file:///srv/git/acme/shop.git", "github", ""},
		{"javascript://github.com/acme/shop", "github", ""},
		{"/srv/acme/shop", "github", ""},
		{"git@:acme/shop", "github", ""},
		{"https://dev.azure.com/acme/shop", "", ""},
		{"git@ssh.dev.azure.com:v3/acme/shop", "", ""},
		{"https://github.com/acme/shop", "", "https://user:secret@git.example.org/acme/shop"},
		{"https://github.com/acme/shop", "", "javascript:alert(1)"},
		{"", "github", ""},
	} {
		if r, ok := Locate(c[0], c[1], c[2]); ok {
			t.Errorf("%q as %q has the page %q", c[0], c[1], r.Page)
		}
	}
	for _, c := range pages {
		r, _ := Locate(c.git, c.kind, "")
		for name, got := range map[string]string{
			"a work tree": r.Commit(id + "+dirty.0123"), "a short id": r.Commit("0123456"), "a digest": r.Commit("sha256:" + id),
			"a path that leads out": r.File(id, "../x", 1), "an absolute path": r.File(id, "/etc/passwd", 1), "no path": r.File(id, "", 1),
			"half a comparison": r.Compare(older, ""), "no branch": r.PullRequest("", "main"),
		} {
			if got != "" {
				t.Errorf("%s: %s has the page %s", c.kind, name, got)
			}
		}
		hostile := r.File(id, "a/?x=1#y/\"><script>.yaml", 3)
		if strings.ContainsAny(hostile, "\"<>") || strings.Count(hostile, "#") > 1 || !strings.HasPrefix(hostile, c.page) {
			t.Errorf("%s: a hostile name gives %s", c.kind, hostile)
		}
		if strings.Contains(r.File(id, "repo.git", 0), "L0") || !strings.Contains(r.File(id, "a/repo.git", 0), "repo.git") {
			t.Errorf("%s: without a line: %s", c.kind, r.File(id, "a/repo.git", 0))
		}
	}
	if (Repo{}).Commit(id) != "" || (Repo{}).Templates() != nil || (Repo{}).PullRequest("a", "b") != "" {
		t.Error("a repository that is nowhere has pages")
	}
}

func TestTemplatesGiveTheSamePages(t *testing.T) {
	for _, c := range pages {
		r, _ := Locate(c.git, c.kind, "")
		tmpl := r.Templates()
		fill := strings.NewReplacer("{commit}", id, "{path}", "apps/d.yaml", "{line}", "7")
		if got := fill.Replace(tmpl.Commit); got != r.Commit(id) {
			t.Errorf("%s: commit %s", c.kind, got)
		}
		if got := fill.Replace(tmpl.File); got != r.File(id, "apps/d.yaml", 7) && r.Kind != AzureDevOps {
			t.Errorf("%s: file %s", c.kind, got)
		}
	}
}
