package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// doorway forwards connections to an address while it is open; while it is
// closed they are refused, as those to a cluster that is away.
type doorway struct {
	t       *testing.T
	address string
	to      string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

func newDoorway(t *testing.T, to string) *doorway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &doorway{t: t, address: l.Addr().String(), to: to}
	l.Close() // the address stays ours: nobody else is given it in so short a time
	t.Cleanup(d.close)
	return d
}

func (d *doorway) open() {
	d.t.Helper()
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	d.listener = l
	d.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", d.to)
			if err != nil {
				in.Close()
				continue
			}
			d.mu.Lock()
			d.conns = append(d.conns, in, out)
			d.mu.Unlock()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
			go func() { _, _ = io.Copy(out, in); out.Close() }()
		}
	}()
}

func (d *doorway) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		d.listener.Close()
	}
	for _, c := range d.conns {
		c.Close()
	}
	d.listener, d.conns = nil, nil
}

// kubeconfigBehind is the stage's kubeconfig with the server behind a doorway.
func (s *stage) kubeconfigBehind() (string, *doorway) {
	s.t.Helper()
	config, err := clientcmd.LoadFromFile(s.kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	cluster := config.Clusters[config.Contexts[config.CurrentContext].Cluster]
	server, err := url.Parse(cluster.Server)
	if err != nil {
		s.t.Fatal(err)
	}
	d := newDoorway(s.t, server.Host)
	cluster.Server = "https://" + d.address
	path := filepath.Join(s.dir, "far.kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		s.t.Fatal(err)
	}
	return path, d
}

// nearAndFar are an environment in the cluster that is shared, and one in the same
// by another way.
func (s *stage) nearAndFar(ns, near, far, kubeconfig string) {
	t := s.t
	t.Helper()
	s.repo.Commit(t, map[string]string{
		"environments/near.yaml": environmentSpec(near, "near", ns, ""),
		"environments/far.yaml":  environmentSpec(far, "far", ns, "target: far"),
		"near/a.yaml":            configMap("near", "color", "blue"),
		"far/a.yaml":             configMap("far", "color", "blue"),
	})
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	// Each cluster has the state of its own environments, as two clusters would.
	more := fmt.Sprintf("- {name: far, kubeconfig: %s, stateNamespace: %s}\nsources:", kubeconfig, ns)
	text = []byte(replaceOnce(t, string(text), "sources:", more))
	text = []byte(replaceOnce(t, string(text), `grants: [{`, `grants: [{target: far, namespaces: ["*"]}, {`))
	if err := os.WriteFile(s.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAClusterThatIsAwayHurtsOnlyItsOwnAndIsCaughtUp(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	near, far := "near-"+ns, "far-"+ns
	kubeconfig, door := s.kubeconfigBehind()
	s.nearAndFar(ns, near, far, kubeconfig)
	s.start()
	s.settled(near, reconciler.Applied)
	s.expectValue(ns, "near", "color", "blue")
	s.edit(ns, "near", `{"data":{"color":"red"}}`)
	s.expectValue(ns, "near", "color", "blue")
	if status, err := s.client.Environment(context.Background(), far); err != nil || status.Sync == reconciler.SyncClean {
		t.Errorf("the environment of a cluster that is away is %s (%v)", status.Sync, err)
	}
	door.open()
	s.expectValue(ns, "far", "color", "blue")
	s.settled(far, reconciler.Applied)

	door.close()
	s.edit(ns, "far", `{"data":{"color":"red"}}`)
	s.repo.Commit(t, map[string]string{"near/a.yaml": configMap("near", "color", "green")})
	s.resync(near)
	s.expectValue(ns, "near", "color", "green")
	if v, err := s.value(ns, "far", "color"); err != nil || v != "red" {
		t.Errorf("a cluster that is away was written to: %q, %v", v, err)
	}
	door.open()
	s.expectValue(ns, "far", "color", "blue")
}

func replaceOnce(t *testing.T, text, old, with string) string {
	t.Helper()
	i := strings.Index(text, old)
	if i < 0 {
		t.Fatalf("the configuration lacks %q:\n%s", old, text)
	}
	return text[:i] + with + text[i+len(old):]
}
