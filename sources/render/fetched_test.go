package render_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/charts"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// published is a store that may fetch from a registry on this machine, and the
// address of the charts in it.
func published(t *testing.T, archives map[string][]byte) (store *charts.Store, repo string) {
	t.Helper()
	server := ociserver.Start(t)
	for name, data := range archives {
		server.Publish(t, "charts/"+name, "1.0.0", ociserver.Artifact{Layer: data, LayerType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip"})
	}
	store, err := charts.Open(charts.Options{Dir: t.TempDir(), Registries: []charts.Registry{{URL: "oci://" + server.Host + "/charts", Insecure: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return store, "oci://" + server.Host + "/charts"
}

func TestChartOfARegistryIsRendered(t *testing.T) {
	sub := ociserver.Archive(t,
		ociserver.File("db/Chart.yaml", "{apiVersion: v2, name: db, version: 0.1.0}\n"),
		ociserver.File("db/templates/db.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: db}}\n"))
	store, repo := published(t, map[string][]byte{"web": ociserver.Archive(t,
		ociserver.File("web/Chart.yaml", "{apiVersion: v2, name: web, version: 1.0.0, dependencies: [{name: db, version: 0.1.0}]}\n"),
		ociserver.File("web/values.yaml", "colour: red\n"),
		ociserver.File("web/charts/db-0.1.0.tgz", string(sub)),
		ociserver.File("web/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {colour: {{ .Values.colour }}}\n"),
		ociserver.File("web/templates/fails.yaml", "{{ if eq .Values.colour \"green\" }}{{ fail \"no green\" }}{{ end }}"))})
	r := newRenderer(render.Options{Charts: store})
	req := render.Request{
		Tree: treetest.New(map[string]string{"values.yaml": "colour: blue\n"}), Path: "nowhere", Spec: sources.Origin{File: "e.yaml", Line: 3},
		Helm: &environment.Helm{Repo: repo, Chart: "web", Version: "1.0.0", ValuesFiles: []string{"values.yaml"}},
	}
	out := mustRender(t, r, req)
	if len(out.Items) != 2 || out.Items[0].Origin.File != "web-1.0.0/templates/a.yaml" || !strings.Contains(string(out.Items[0].Body), `"colour":"blue"`) {
		t.Errorf("items %+v", out.Items)
	}
	if !mustRender(t, r, req).Cached {
		t.Error("is not remembered")
	}
	req.Helm.Values = map[string]any{"colour": "green"}
	if _, err := r.Render(t.Context(), req); err == nil || err.Error() != "web-1.0.0/templates/fails.yaml:1:37: helm: no green" {
		t.Errorf("error %v", err)
	}
	req.Helm.Version = "2.0.0"
	if _, err := r.Render(t.Context(), req); err == nil || !strings.HasPrefix(err.Error(), "e.yaml:3: spec.helm: "+repo+` has no version 2.0.0 of chart "web"`) {
		t.Errorf("error %v", err)
	}
}

// TestHostileArchives has charts that lead out of their folder, or are no charts.
func TestHostileArchives(t *testing.T) {
	chart := ociserver.File("web/Chart.yaml", "{apiVersion: v2, name: web, version: 1.0.0}\n")
	archives := map[string][]byte{
		"text":     []byte("not an archive"),
		"dots":     ociserver.Archive(t, chart, ociserver.File("web/../../etc/x", "x")),
		"absolute": ociserver.Archive(t, chart, ociserver.File("web//etc/x", "x")),
		"empty":    ociserver.Archive(t, ociserver.File("web/README", "x")),
		"broken":   ociserver.Archive(t, ociserver.File("web/Chart.yaml", "name: [")),
	}
	store, repo := published(t, archives)
	for name := range archives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newRenderer(render.Options{Charts: store}).Render(t.Context(), render.Request{
				Tree: treetest.New(map[string]string{"x": ""}), Path: ".", Helm: &environment.Helm{Repo: repo, Chart: name, Version: "1.0.0"},
			})
			if !errors.As(err, new(sources.Problems)) {
				t.Errorf("error %v", err)
			}
		})
	}
}

type away struct{}

func (away) Fetch(context.Context, string, string, string) ([]byte, error) {
	return nil, errors.New("the registry does not answer")
}

func TestRegistryThatIsAwayIsNoProblemOfTheSpec(t *testing.T) {
	_, err := newRenderer(render.Options{Charts: away{}}).Render(t.Context(), render.Request{
		Tree: treetest.New(map[string]string{"x": ""}), Path: ".", Helm: &environment.Helm{Repo: "oci://x", Chart: "web", Version: "1.0.0"},
	})
	if err == nil || errors.As(err, new(sources.Problems)) || !strings.Contains(err.Error(), "fetch chart web 1.0.0: the registry does not answer") {
		t.Errorf("error %v", err)
	}
}
