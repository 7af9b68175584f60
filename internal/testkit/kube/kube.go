// Package kube gives tests a real Kubernetes API server, and ways to watch it and
// to break it. There is no fake client: what a test believes about the server is
// what the server does.
//
// Tests share one server and take a namespace each; a test that stops, restarts
// or freezes the server takes one of its own. Faults are put between a client and
// the server with Faults.
package kube

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube/sandbox"
)

// shared starts the sandbox of this test process, when no cluster is given. It
// ends with the process, which needs no call: see sandbox.Process.
var shared = sync.OnceValues(func() (*sandbox.Process, error) {
	ctx := context.Background()
	binary, err := sandbox.Build(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	return sandbox.Start(ctx, binary, sandbox.Options{})
})

// Kubeconfig returns the path of a kubeconfig for the shared cluster: the one
// that HOLDFAST_TEST_KUBECONFIG names, else a sandbox of this process. Without a
// cluster a test fails; with -short it is skipped.
func Kubeconfig(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(sandbox.KubeconfigVariable); path != "" {
		return path
	}
	skipIfShort(t)
	p, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return p.Kubeconfig
}

// Config returns a client configuration for the shared cluster, without a rate
// limit. It is the caller's own to change.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	return load(t, Kubeconfig(t))
}

func skipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a Kubernetes API server, which takes some seconds to start")
	}
}

func load(t testing.TB, path string) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatalf("load the test cluster's kubeconfig %s: %v", path, err)
	}
	cfg.QPS = -1
	return cfg
}

// Namespace creates a namespace for one test on the shared cluster.
func Namespace(t testing.TB) string {
	t.Helper()
	return NamespaceIn(t, Config(t))
}

// NamespaceIn creates a namespace for one test. It returns once the namespace
// holds what every namespace gets by itself (a service account and a ConfigMap),
// so that a list afterwards does not depend on luck. It is deleted at the end of
// the test, without waiting.
func NamespaceIn(t testing.TB, cfg *rest.Config) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	name := namespaceName(t.Name())
	body := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}
	if err := call(ctx, cfg, http.MethodPost, "/api/v1/namespaces", body); err != nil {
		t.Fatalf("create namespace %s: %v", name, err)
	}
	path := "/api/v1/namespaces/" + name
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := call(ctx, cfg, http.MethodDelete, path, nil); err != nil {
			// A test that broke its server cannot do better.
			t.Logf("delete namespace %s: %v", name, err)
		}
	})
	for _, thing := range []string{"/serviceaccounts/default", "/configmaps/kube-root-ca.crt"} {
		if err := until(ctx, func() error { return call(ctx, cfg, http.MethodGet, path+thing, nil) }); err != nil {
			t.Fatalf("wait for %s in namespace %s: %v", thing, name, err)
		}
	}
	return name
}

// namespaceName makes a valid and unique name that tells whose it is.
func namespaceName(test string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, test)
	if len(clean) > 40 {
		clean = clean[:40]
	}
	return strings.Trim(clean, "-") + "-" + strings.ToLower(rand.Text()[:10])
}

// until tries again until f succeeds or ctx ends, and then returns the last error.
func until(ctx context.Context, f func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// call makes one request and tells how it failed in the server's words.
func call(ctx context.Context, cfg *rest.Config, method, path string, body any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	_, err := do(ctx, cfg, method, path, content)
	return err
}

func do(ctx context.Context, cfg *rest.Config, method, path string, body io.Reader) ([]byte, error) {
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, base.JoinPath(path).String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // Only read from.
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	return b, nil
}
