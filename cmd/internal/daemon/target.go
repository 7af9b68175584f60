package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/rs/zerolog"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/hostfiles"
	"github.com/holdfast-gitops/holdfast/reconciler/kube"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// target is an opened target with what specs need to know of it.
type target struct {
	backend
	// driver is the backend as the engine knows it, with all that it can do.
	driver reconciler.Driver
	// namespace is where objects go that name none.
	namespace string
	// contextNamespace is that of the kubeconfig context.
	contextNamespace string
}

// backend is a driver with what rendering has to know of its target.
type backend interface {
	reconciler.Driver
	Namespaced(group, kind string) (namespaced, known bool)
	// Serves is the version of the cluster, and the API versions that it has.
	Serves() (version string, apis []string, err error)
}

// directory is a target that is no cluster.
type directory struct{ *hostfiles.Target }

// Serves implements backend: charts see a cluster that has files and nothing else.
func (directory) Serves() (version string, apis []string, err error) {
	return render.DefaultKubeVersion, []string{hostfiles.Group + "/" + hostfiles.Version}, nil
}

// openTarget makes the driver of a target.
func openTarget(c config.Target, cfg config.Config, from Options, log zerolog.Logger) (*target, error) {
	if c.Directory == "" {
		return openCluster(c, cfg, from, log)
	}
	key, err := kubelive.LoadKey(filepath.Join(cfg.DataDir, "key"))
	if err != nil {
		return nil, err
	}
	t, err := hostfiles.Open(hostfiles.Options{
		Name: c.Name, Dir: c.Directory, Installation: cfg.Installation, Key: key,
		Failed: func(err error) { log.Warn().Err(err).Str("target", c.Name).Msg("target") },
	})
	if err != nil {
		return nil, err
	}
	return &target{backend: directory{t}, driver: t, namespace: c.Namespace, contextNamespace: c.Namespace}, nil
}

// openCluster connects to a cluster as kubectl would, or from within.
func openCluster(c config.Target, cfg config.Config, from Options, log zerolog.Logger) (*target, error) {
	rc, namespace, err := restConfig(c)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", c.Name, err)
	}
	key, err := kubelive.LoadKey(filepath.Join(cfg.DataDir, "key"))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.DataDir, "targets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("target %s: %w", c.Name, err)
	}
	holder, err := holderOf(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	out := &target{contextNamespace: namespace, namespace: c.Namespace}
	if out.namespace == "" {
		out.namespace = namespace
	}
	watched := watchedNamespaces(c.Name, cfg.Sources, namespace)
	state := c.StateNamespace
	if state == "" {
		state = "holdfast-system"
		if watched != nil {
			state = namespace // with namespaces granted only, state stays in ours
		}
	}
	interval, requests := cfg.Verification.Pace()
	cluster, err := kube.Open(kube.Options{
		Verification: kube.Verification{Interval: interval, RequestsPerMinute: requests},
		Name:         c.Name, Config: rc, StateNamespace: state, CreateState: watched == nil,
		Namespaces: watched, Installation: cfg.Installation, Holder: holder, Version: from.Version, Silence: from.WatchSilence,
		Concurrency: c.Concurrency, Baselines: filepath.Join(dir, c.Name+".baselines"), Key: key,
		Failed:   func(err error) { log.Warn().Err(err).Str("target", c.Name).Msg("target") },
		NoEvents: !c.Events, NoHoldAnnotation: !c.HoldAnnotation,
	})
	out.backend, out.driver = cluster, cluster
	return out, err
}

// restConfig follows kubectl's rules: the file that is named, else KUBECONFIG,
// else ~/.kube/config; where none of them is, the pod's own account.
func restConfig(c config.Target) (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig: %w", err)
	}
	if c.Kubeconfig == "" && c.Context == "" && len(raw.Contexts) == 0 {
		return inCluster()
	}
	if user := currentUser(raw.Contexts, raw.CurrentContext, c.Context); user != "" {
		if auth := raw.AuthInfos[user]; auth != nil && auth.Exec != nil && !c.AllowExec {
			return nil, "", fmt.Errorf("kubeconfig user %q runs a program (%s) for its credentials, which is not allowed (hint: use a token, a client certificate or a service account, or write allowExec: true at the target)", user, auth.Exec.Command)
		}
	}
	rc, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig: %w", err)
	}
	return rc, namespace, nil
}

func inCluster() (*rest.Config, string, error) {
	rc, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, "", errors.New("no cluster: there is no kubeconfig, and this is not a pod (hint: give --kubeconfig, or set KUBECONFIG)")
	}
	if err != nil {
		return nil, "", err
	}
	namespace := "default"
	if b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace"); err == nil && len(b) > 0 {
		namespace = string(b)
	}
	return rc, namespace, nil
}

// watchedNamespaces is what the sources were granted in a target; nil is all.
func watchedNamespaces(name string, all []config.Source, contextNamespace string) []string {
	out := []string{}
	for _, s := range all {
		for _, g := range s.Grants {
			if g.Target != name {
				continue
			}
			reach := reachIn(g, contextNamespace)
			if reach.Cluster || slices.Contains(reach.Namespaces, "*") {
				return nil
			}
			out = append(out, reach.Namespaces...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func currentUser(contexts map[string]*clientcmdapi.Context, current, override string) string {
	if override != "" {
		current = override
	}
	if c := contexts[current]; c != nil {
		return c.AuthInfo
	}
	return ""
}
