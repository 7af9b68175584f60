package render_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

var update = flag.Bool("update", false, "write the answers that the code gives into testdata")

// TestRender compares what each archive in testdata renders to with its file
// "want". The first line of an archive's comment has the path, and after it
// words of the form key=value: namespace, create.
func TestRender(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			input := &txtar.Archive{Comment: archive.Comment}
			for _, f := range archive.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				input.Files = append(input.Files, f)
			}
			got := renderText(t.Context(), request(input))
			if strings.Contains(got, "hunter") {
				t.Errorf("a secret is told:\n%s", got)
			}
			if *update {
				input.Files = append(input.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(input), 0o644); err != nil {
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

func request(archive *txtar.Archive) render.Request {
	first, _, _ := strings.Cut(string(archive.Comment), "\n")
	words := strings.Fields(first)
	req := render.Request{Tree: treetest.FromTxtar(archive), Path: words[0]}
	for _, word := range words[1:] {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "namespace":
			req.DefaultNamespace = value
		case "create":
			req.CreateNamespace = value == "true"
		}
	}
	return req
}

func renderText(ctx context.Context, req render.Request) string {
	result, err := render.New(render.Options{}).Render(ctx, req)
	if errors.Is(err, render.ErrEmpty) {
		return "empty: " + err.Error() + "\n"
	}
	if err != nil {
		return fmt.Sprintf("%T:\n%v\n", err, err)
	}
	var b strings.Builder
	for _, i := range result.Items {
		fmt.Fprintf(&b, "%s [%s] %s\n  %s\n", i.Origin, i.Origin.Layer, i.ID, i.Body)
	}
	for _, i := range result.Inputs {
		fmt.Fprintf(&b, "input %s %s\n", i.Kind, i.Path)
	}
	return b.String()
}
