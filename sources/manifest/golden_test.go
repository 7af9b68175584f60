package manifest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

var update = flag.Bool("update", false, "write the answers that the code gives into testdata")

// TestLoad compares what each archive in testdata loads to with its file "want".
func TestLoad(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, at := "", -1
			for i, f := range archive.Files {
				if f.Name == "want" {
					want, at = string(f.Data), i
				}
			}
			input := *archive
			if at >= 0 {
				input.Files = append(archive.Files[:at:at], archive.Files[at+1:]...)
			}
			got := load(treetest.FromTxtar(&input), ".")
			if *update {
				input.Files = append(input.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(&input), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// load tells the result of loading a folder: a line for each item, or the
// problems.
func load(tree sources.Tree, dir string) string {
	items, err := manifest.Load(tree, dir, manifest.Options{})
	if err == nil {
		err = manifest.Duplicates(items).Err()
	}
	if err != nil {
		return "error:\n" + err.Error() + "\n"
	}
	var b strings.Builder
	for _, i := range items {
		secret := ""
		if i.Sensitive {
			secret = " sensitive"
		}
		fmt.Fprintf(&b, "%s %s %s%s\n  %s\n", i.Origin, i.ID, i.APIVersion(), secret, i.Body)
	}
	return b.String()
}
