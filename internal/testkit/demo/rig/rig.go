// Package rig is what the demo and the benchmark run on: the two programs, built
// from this checkout; a sandbox cluster; a git repository served on the loopback;
// and the daemon as a process of its own, called over its socket.
//
// It owns processes and files and knows nothing of what is shown or measured.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube/sandbox"
)

// Programs are the paths of the two programs.
type Programs struct{ Holdfast, Sandbox string }

// Build builds both programs, from the root of the checkout, which must be the
// working directory. Notices go to log, since the first time takes minutes.
func Build(ctx context.Context, log io.Writer) (Programs, error) {
	if err := checkTools(); err != nil {
		return Programs{}, err
	}
	program, err := filepath.Abs("bin/holdfast")
	if err != nil {
		return Programs{}, fmt.Errorf("find the working directory: %w", err)
	}
	fmt.Fprintln(log, "building bin/holdfast")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/holdfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("build holdfast: %w\n%s", err, out)
	}
	box, err := sandbox.Build(ctx, log)
	if err != nil {
		return Programs{}, err
	}
	return Programs{Holdfast: program, Sandbox: box}, nil
}

func checkTools() error {
	var problems []error
	if _, err := os.Stat("go.mod"); err != nil {
		problems = append(problems, errors.New("the working directory is not the root of the checkout: use make"))
	}
	for _, tool := range []string{"go", "git"} {
		if _, err := exec.LookPath(tool); err != nil {
			problems = append(problems, fmt.Errorf("there is no %s on the PATH: install it first", tool))
		}
	}
	return errors.Join(problems...)
}

// Cluster is a running sandbox.
type Cluster struct {
	Kubeconfig string
	// Config is for clients of our own, without a rate limit.
	Config *rest.Config
	// Objects reads and writes as a stranger would.
	Objects dynamic.Interface

	process *sandbox.Process
}

// StartCluster starts a sandbox that keeps its files in dir.
func StartCluster(ctx context.Context, program, dir string) (*Cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the sandbox's folder: %w", err)
	}
	p, err := sandbox.Start(ctx, program, sandbox.Options{Dir: dir})
	if err != nil {
		return nil, err
	}
	c := &Cluster{Kubeconfig: p.Kubeconfig, process: p}
	if err := c.connect(); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return c, nil
}

func (c *Cluster) connect() (err error) {
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return fmt.Errorf("read the sandbox's kubeconfig: %w", err)
	}
	c.Config.QPS = -1
	if c.Objects, err = dynamic.NewForConfig(c.Config); err != nil {
		return fmt.Errorf("connect to the sandbox: %w", err)
	}
	return nil
}

// Done is closed when the sandbox has ended.
func (c *Cluster) Done() <-chan struct{} { return c.process.Done() }

// Stop stops the sandbox; its files stay.
func (c *Cluster) Stop() error { return c.process.Stop() }
