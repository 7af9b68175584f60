package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFollowing(t *testing.T) {
	c, err := decode("x.yaml", "/etc/holdfast", []byte(`
sources:
  - name: shop
    url: https://git.example.org/shop.git
    ref: v1.0.0
    rewind: allow
    verify: {signed: either, openpgp: [keys/ada.asc], ssh: [/keys/allowed_signers]}
    submodules: any
    lfs: true
    store: memory
    limits: {repository: 2GiB, memory: 64MiB, download: 512 KiB, file: 1048576, files: 1000}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Following{
		Rewind: RewindAllow, Submodules: "any", LFS: true, Store: StoreMemory,
		Verify: Verify{Signed: "either", OpenPGP: []string{"/etc/holdfast/keys/ada.asc"}, SSH: []string{"/keys/allowed_signers"}},
		Limits: Limits{Repository: 2 << 30, Memory: 64 << 20, Download: 512 << 10, File: 1 << 20, Files: 1000},
	}
	if diff := cmp.Diff(want, c.Sources[0].Following); diff != "" {
		t.Error(diff)
	}
}

func TestFollowingThatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"url: https://h/r.git\n    rewind: never":                      `rewind "never" is not known`,
		"url: https://h/r.git\n    verify: {signed: tag, ssh: [k]}":    "needs a signed tag, and no tag is followed",
		"url: https://h/r.git\n    verify: {signed: commit}":           "verify names no keys",
		"url: https://h/r.git\n    limits: {file: 12MB}":               `limits.file must be a size, and is "12MB"`,
		"url: https://h/r.git\n    limits: {memory: 0}":                "must be a size",
		"url: https://h/r.git\n    limits: {memory: 9999999999999GiB}": "must be a size",
		"dir: x\n    store: memory":                                    "store is for a git repository",
		"dir: x\n    verify: {ssh: [k]}":                               "verify is for a git repository",
		"url: oci://h/r\n    rewind: hold":                             "rewind is for a git repository",
		"url: https://h/r.git\n    submodules: all":                    `submodules "all" is not known`,
	} {
		_, err := decode("x.yaml", "/", []byte("sources:\n  - name: shop\n    "+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %q", text, err, want)
		}
	}
}
