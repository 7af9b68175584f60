package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
)

// startTime bounds how long the daemon may take until all was applied.
const startTime = 2 * time.Minute

// options say where and how the stage is set up.
type options struct {
	dir      string
	listen   string
	interval time.Duration
}

// stage is everything that is shown: cluster, repository and daemon.
type stage struct {
	dir     string
	lock    *os.File
	cluster *rig.Cluster
	repo    *rig.Repo
	daemon  *rig.Daemon
}

// open builds the programs, empties the folder and sets up everything but the
// daemon's process.
func open(ctx context.Context, o options) (s *stage, err error) {
	programs, err := rig.Build(ctx, os.Stdout)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, fmt.Errorf("find the demo's folder: %w", err)
	}
	s = &stage{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.empty(); err != nil {
		return s, err
	}
	fmt.Println("starting a Kubernetes control plane")
	if s.cluster, err = rig.StartCluster(ctx, programs.Sandbox, s.path("sandbox")); err != nil {
		return s, err
	}
	files, err := rig.Files("examples/shop")
	if err != nil {
		return s, err
	}
	if s.repo, err = rig.NewRepo(s.path("git"), "shop", files); err != nil {
		return s, err
	}
	listen, err := rig.FreeAddress(o.listen)
	if err != nil {
		return s, err
	}
	s.daemon, err = rig.NewDaemon(rig.Settings{
		Dir: s.path("holdfast"), Program: programs.Holdfast, Kubeconfig: s.cluster.Kubeconfig,
		RepoURL: s.repo.URL, Interval: o.interval, Listen: listen,
	})
	return s, err
}

// empty makes the folder anew, unless another demo runs in it.
func (s *stage) empty() error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	lock, err := os.OpenFile(s.dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the demo's folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return fmt.Errorf("another demo runs in %s: stop that one first", s.dir)
	}
	s.lock = lock
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("empty the demo's folder: %w", err)
	}
	return nil
}

// path is a path in the stage's folder.
func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// start starts the daemon and waits until every environment was compared.
func (s *stage) start(ctx context.Context) error {
	fmt.Println("starting holdfast")
	if err := s.daemon.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	return s.daemon.WaitReady(ctx)
}

// close stops what runs, the daemon first, since it talks to the others. The
// files stay, to look at.
func (s *stage) close() error {
	var problems []error
	if s.daemon != nil {
		problems = append(problems, s.daemon.Stop())
	}
	if s.repo != nil {
		s.repo.Close()
	}
	if s.cluster != nil {
		problems = append(problems, s.cluster.Stop())
	}
	if s.lock != nil {
		s.lock.Close() // which unlocks
	}
	return errors.Join(problems...)
}
