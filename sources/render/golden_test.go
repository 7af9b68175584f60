package render_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/render"
	"github.com/holdfast-gitops/holdfast/sources/sops"
)

var update = flag.Bool("update", false, "write the answers that the code gives into testdata")

// TestRender compares what each archive in testdata renders to with its file
// "want". The first line of an archive's comment has the path, and after it
// words of the form key=value: namespace, create, and keys=true for the keys in
// the testdata of package sops. A file "request" has more of the request.
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
			got := renderText(t.Context(), request(t, input))
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

func request(t *testing.T, archive *txtar.Archive) render.Request {
	t.Helper()
	first, _, _ := strings.Cut(string(archive.Comment), "\n")
	words := strings.Fields(first)
	files := *archive
	files.Files = slices.DeleteFunc(slices.Clone(archive.Files), func(f txtar.File) bool { return f.Name == "request" })
	req := render.Request{
		Tree: treetest.FromTxtar(&files), Path: words[0],
		Spec: sources.Origin{File: "environments/e.yaml", Line: 1}, Release: "e",
	}
	for _, word := range words[1:] {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "namespace":
			req.DefaultNamespace = value
		case "create":
			req.CreateNamespace = value == "true"
		case "keys":
			req.Decrypter = testKeys(t)
		}
	}
	for _, f := range archive.Files {
		if f.Name == "request" {
			if err := yaml.UnmarshalStrict(f.Data, &req); err != nil {
				t.Fatal(err)
			}
		}
	}
	return req
}

func testKeys(t testing.TB) *sops.Keyring {
	t.Helper()
	k, err := sops.Open([]sops.Key{{Name: "test", AgeFile: "../sops/testdata/age.key"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func renderText(ctx context.Context, req render.Request) string {
	result, err := newRenderer(render.Options{}).Render(ctx, req)
	if errors.Is(err, render.ErrEmpty) {
		return "empty: " + err.Error() + "\n"
	}
	if err != nil {
		return fmt.Sprintf("%T:\n%v\n", err, err)
	}
	var b strings.Builder
	for _, i := range result.Items {
		body := string(i.Body)
		if i.Sensitive && i.ID.Kind != "Secret" {
			body = "sensitive"
		}
		fmt.Fprintf(&b, "%s [%s] %s\n  %s\n", i.Origin, i.Origin.Layer, i.ID, body)
	}
	for _, i := range result.Inputs {
		fmt.Fprintf(&b, "input %s %s\n", i.Kind, i.Path)
	}
	return b.String()
}
