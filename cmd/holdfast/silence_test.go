package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/daemon"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// impatienceVariable makes the program a daemon to which watches are stale sooner.
const impatienceVariable = "HOLDFAST_TEST_SILENCE"

// impatient is `holdfast run --config FILE` with another bound on silence.
func impatient(silence, file string) int {
	c, err := config.Load(file)
	after, err2 := time.ParseDuration(silence)
	if err != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, err, err2)
		return 3
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err = daemon.Run(ctx, daemon.Options{Config: c, Version: "test", Logger: zerolog.New(os.Stderr), WatchSilence: after})
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// muffler stands before an API server. While it is on, watches are opened, and
// nothing of what the server sends comes through, as behind a proxy that waits for
// the end of an answer.
type muffler struct {
	on     atomic.Bool
	opened atomic.Int64
	server *httptest.Server
}

func newMuffler(t *testing.T, cfg *rest.Config) *muffler {
	t.Helper()
	transport, err := rest.TransportFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	m := &muffler{}
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Query().Get("watch") != "" {
				if m.on.Load() {
					m.opened.Add(1)
				}
				r.Body = &muffled{ReadCloser: r.Body, on: &m.on}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	m.server = httptest.NewServer(proxy)
	return m
}

func (m *muffler) close() {
	m.server.CloseClientConnections()
	m.server.Close()
}

// muffled is a watch. Once something of it was kept back it stays silent, since what
// comes later would be half a sentence.
type muffled struct {
	io.ReadCloser
	on   *atomic.Bool
	mute bool
}

// Read implements io.Reader.
func (m *muffled) Read(p []byte) (int, error) {
	for {
		n, err := m.ReadCloser.Read(p)
		m.mute = m.mute || m.on.Load()
		if !m.mute || err != nil {
			return n, err
		}
	}
}

// kubeconfig is one for the server behind it.
func (m *muffler) kubeconfig(t *testing.T, dir string) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["far"] = &clientcmdapi.Cluster{Server: m.server.URL}
	c.Contexts["far"] = &clientcmdapi.Context{Cluster: "far"}
	c.CurrentContext = "far"
	path := filepath.Join(dir, "muffled.kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAWatchThatSaysNothingIsShownAsStaleEverywhere: the environment behind it is
// stale in the status, the report, the metrics and by the exit codes, and never clean;
// its neighbour is clean all the time; and what drifted meanwhile is found and put back
// when the watch speaks again.
func TestAWatchThatSaysNothingIsShownAsStaleEverywhere(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	near, far := "near-"+ns, "mute-"+ns
	const limit = 6 * time.Second
	m := newMuffler(t, kube.Config(t))
	t.Cleanup(func() { s.kill(); m.close() })
	s.nearAndFar(ns, near, far, m.kubeconfig(t, s.dir))
	s.env = []string{impatienceVariable + "=" + limit.String()}
	s.start()
	// A server says something once a minute; here somebody writes all the time.
	quiet := s.noise(ns)
	defer quiet()
	s.settled(near, reconciler.Applied)
	s.settled(far, reconciler.Applied)

	stands := func(name string, want reconciler.Sync) (got reconciler.Status) {
		t.Helper()
		s.until(name+" is "+string(want), func() error {
			var err error
			if got, err = s.client.Environment(context.Background(), name); err == nil && got.Sync != want {
				err = fmt.Errorf("it is %s: %v", got.Sync, got.Errors)
			}
			return err
		})
		return got
	}
	stands(far, reconciler.SyncClean)
	s.verb(0, "status", far)
	if out := s.verb(0, "drift", far); !strings.Contains(out, "no drift\n") {
		t.Errorf("while all is well: %s", out)
	}

	m.on.Store(true)
	s.edit(ns, "far", `{"data":{"color":"red"}}`)
	got := stands(far, reconciler.SyncStale)
	if len(got.Errors) == 0 || got.Errors[0].Object != "target far" || !strings.Contains(got.Errors[0].Message, "configmaps: silent for") || got.Errors[0].Hint == "" {
		t.Errorf("the status says %v", got.Errors)
	}
	s.until("the watch is opened again, which is no sign of life", func() error {
		var err error
		if got, err = s.client.Environment(context.Background(), far); err == nil && m.opened.Load() == 0 {
			err = fmt.Errorf("it is not")
		}
		return err
	})
	if got.Sync != reconciler.SyncStale || time.Since(got.AsOf) < limit {
		t.Errorf("opened again it is %s as of %s", got.Sync, got.AsOf)
	}
	s.staleEverywhere(near, far, func() { stands(near, reconciler.SyncClean) })
	if v, err := s.value(ns, "far", "color"); err != nil || v != "red" {
		t.Errorf("the drift that nobody can see is %q, %v: this test tests nothing", v, err)
	}

	m.on.Store(false)
	s.expectValue(ns, "far", "color", "blue")
	stands(far, reconciler.SyncClean)
	s.verb(0, "status", far)
	report, err := s.client.Drift(context.Background(), api.DriftQuery{Environment: far})
	if err != nil || len(report.Unsure) != 0 || len(report.Episodes) != 1 || report.Episodes[0].State != drift.Corrected {
		t.Errorf("afterwards: %v, %+v", err, report)
	}
	s.stop()

	// A daemon that never heard anything is blind, not only behind.
	m.on.Store(true)
	s.start()
	got = stands(far, reconciler.SyncStale)
	report, err = s.client.Drift(context.Background(), api.DriftQuery{Environment: far})
	if err != nil || got.Compared || len(report.Detectors) != 1 || report.Detectors[0].Sight != drift.Blind ||
		!strings.Contains(report.Unsure[far], "could not be compared: target far") {
		t.Errorf("from the start: %v, compared %t, %+v", err, got.Compared, report.Detectors)
	}
	s.verb(1, "drift", far)
	s.verb(1, "status", far)
	s.stop()
}

// noise is what keeps the watches of ConfigMaps busy until it is ended.
func (s *stage) noise(namespace string) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			body := fmt.Appendf(nil, `{"metadata":{"annotations":{"noise":"%d"}}}`, n)
			// One that fails is followed by another.
			_, _ = s.objects.Resource(cms).Namespace(namespace).Patch(ctx, "near", types.MergePatchType, body, metav1.PatchOptions{FieldManager: "noise"})
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// staleEverywhere holds what the daemon says of an environment that is stale against
// each other, and its neighbour is to be clean. Fresh waits until it is.
func (s *stage) staleEverywhere(near, far string, fresh func()) {
	s.t.Helper()
	t := s.t
	report, err := s.client.Drift(context.Background(), api.DriftQuery{})
	if err != nil || report.Unsure[far] == "" || report.Unsure[near] != "" {
		t.Errorf("the report is unsure of %v (%v)", report.Unsure, err)
	}
	for _, d := range report.Detectors {
		if want := map[string]drift.Sight{near: drift.Fresh, far: drift.Stale}[d.Environment]; d.Sight != want {
			t.Errorf("%s is seen %s: %s; want %s", d.Environment, d.Sight, d.Why, want)
		}
	}
	if out := s.verb(1, "status"); !strings.Contains(out, "stale") || !strings.Contains(out, "silent for") {
		t.Errorf("status: %s", out)
	}
	var one reconciler.Status
	if err := json.Unmarshal([]byte(s.verb(1, "status", far, "-o", "json")), &one); err != nil || one.Sync != reconciler.SyncStale {
		t.Errorf("status as JSON: %v, %s", err, one.Sync)
	}
	for _, args := range [][]string{{"drift"}, {"drift", far}, {"drift", far, "--open"}, {"drift", "--since", "7d"}} {
		out := s.verb(1, args...)
		if !strings.Contains(out, far+": nothing can be said") || strings.Contains(out, "no drift\n") {
			t.Errorf("%v: %s", args, out)
		}
	}
	for _, format := range []string{"json", "yaml", "markdown", "html"} {
		if out := s.verb(1, "drift", "-o", format); !strings.Contains(out, "not been heard of") || !strings.Contains(out, "stale") {
			t.Errorf("drift as %s: %s", format, out)
		}
	}
	exposed := s.metrics()
	for _, want := range []string{
		fmt.Sprintf("holdfast_environment_sync{environment=%q,sync=\"stale\"} 1\n", far),
		"holdfast_target_problems{target=\"far\"} ", "holdfast_target_quiet_seconds{target=\"far\"} ",
	} {
		if _, value, found := strings.Cut(exposed, want); !found || strings.HasPrefix(value, "0\n") {
			t.Errorf("the metrics lack %s, or it is 0", want)
		}
	}
	fresh()
	s.verb(0, "status", near)
	s.verb(0, "drift", near)
}
