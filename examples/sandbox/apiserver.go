package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	serveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

const (
	// serviceRange is wide enough for tests with many thousand Services.
	serviceRange = "10.96.0.0/12"
	// serviceIP is the first address in it, which the API server gives to its
	// own Service.
	serviceIP = "10.96.0.1"
)

// apiServerOptions is what differs from one sandbox to the next.
type apiServerOptions struct {
	listener net.Listener
	etcd     string
	pki      *pki
}

// apiServer is a running kube-apiserver.
type apiServer struct {
	cancel context.CancelFunc
	done   chan struct{}
	failed chan error
}

// startAPIServer starts the unchanged kube-apiserver of Kubernetes. It has its
// own context, as it must outlive those that talk to it.
func startAPIServer(o apiServerOptions) (*apiServer, error) {
	s := serveroptions.NewServerRunOptions()
	fs := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range s.Flags().FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(apiServerFlags(o)); err != nil {
		return nil, fmt.Errorf("set up the API server: %w", err)
	}
	// The port is held from here on: another process cannot take it between
	// its choice and its use.
	s.SecureServing.Listener = o.listener
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, fmt.Errorf("set up the API server: %w", err)
	}
	// Its clients are ourselves, and a warning is for the author of a manifest.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	ctx, cancel := context.WithCancel(context.Background())
	completed, err := s.Complete(ctx)
	if err == nil {
		err = errors.Join(completed.Validate()...)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("set up the API server: %w", err)
	}
	a := &apiServer{cancel: cancel, done: make(chan struct{}), failed: make(chan error, 1)}
	go func() {
		defer close(a.done)
		err := app.Run(ctx, completed)
		if err == nil {
			err = errors.New("it ended without an error")
		}
		a.failed <- err
	}()
	return a, nil
}

func apiServerFlags(o apiServerOptions) []string {
	return []string{
		"--etcd-servers=" + o.etcd,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port(o.listener)),
		"--advertise-address=127.0.0.1",
		// A loopback address is no valid endpoint of the kubernetes Service,
		// and no pod really runs that would want to reach it.
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + o.pki.cert("server"),
		"--tls-private-key-file=" + o.pki.key("server"),
		"--client-ca-file=" + o.pki.cert("ca"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + o.pki.cert("sa"),
		"--service-account-signing-key-file=" + o.pki.key("sa"),
		"--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		// Tests and benchmarks measure Holdfast, not the server's throttling.
		"--enable-priority-and-fairness=false",
		"--max-requests-inflight=0",
		"--max-mutating-requests-inflight=0",
		"--profiling=false",
		// Ends open requests two seconds after a stop, instead of sixty.
		"--shutdown-send-retry-after=true",
	}
}

// stop ends the API server and waits for it.
func (a *apiServer) stop() {
	a.cancel()
	awaitStop("kube-apiserver", a.done)
}

// waitReadyz waits until the API server calls itself ready, which includes its
// caches and the default roles.
func waitReadyz(ctx context.Context, c *clients) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, last = c.kube.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the API server: %w", causeOf(ctx, last))
	}
	return nil
}

// waitDefaults waits for what every client takes for granted: the default
// namespace and, in it, the service account that pods get.
func waitDefaults(ctx context.Context, c *clients) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, last = c.kube.CoreV1().ServiceAccounts(corev1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the default service account: %w", causeOf(ctx, last))
	}
	return nil
}

// causeOf says why a wait ended, and the last thing seen before.
func causeOf(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if last == nil || strings.Contains(last.Error(), cause.Error()) {
		return cause
	}
	return fmt.Errorf("%w: %w", cause, last)
}
