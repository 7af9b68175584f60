package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// The names of the sets of objects: each is labelled with its own, and lives in
// namespaces of its own.
const (
	ours      = "ours"
	rawBefore = "raw-before"
	rawAfter  = "raw-after"
	warmUp    = "warm-up"
)

// bench is one size being measured.
type bench struct {
	options
	size int
	// spaces is over how many namespaces the objects are spread; where each is true
	// every one of them is an environment of its own.
	spaces  int
	each    bool
	cluster *rig.Cluster
	repo    *rig.Repo
	daemon  *rig.Daemon
	mirror  *gitrepo.Repo
	objects []object
	watched *memory
	results results
}

// measureSize takes measures of one size, on a fresh cluster.
func measureSize(ctx context.Context, programs rig.Programs, size int, o options, take func(*bench, context.Context) error) (_ results, err error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Printf("%d objects\n", size)
	b := &bench{options: o, size: size, spaces: namespaceCount, objects: mixed(ours, size, namespaceCount)}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx, programs, dir); err != nil {
		return nil, err
	}
	if err := take(b, ctx); err != nil {
		return nil, errors.Join(err, fmt.Errorf("the end of the daemon's log:\n%s", b.daemon.LastLog()))
	}
	return b.results, nil
}

func (b *bench) open(ctx context.Context, programs rig.Programs, dir string) (err error) {
	if b.cluster, err = rig.StartCluster(ctx, programs.Sandbox, filepath.Join(dir, "sandbox")); err != nil {
		return err
	}
	if b.repo, err = rig.NewRepo(filepath.Join(dir, "git"), "bench", repository(ours, b.objects, b.spaces, b.each)); err != nil {
		return err
	}
	b.mirror, err = gitrepo.Open(gitrepo.Options{Name: "bench", URL: b.repo.URL, Ref: "main", Dir: filepath.Join(dir, "mirror")})
	if err != nil {
		return err
	}
	b.daemon, err = rig.NewDaemon(rig.Settings{
		Dir: filepath.Join(dir, "holdfast"), Program: programs.Holdfast, Kubeconfig: b.cluster.Kubeconfig,
		// Nothing is polled: every run has a trigger, from which it is measured.
		RepoURL: b.repo.URL, Interval: 24 * time.Hour,
	})
	return err
}

func (b *bench) close() error {
	var problems []error
	if b.watched != nil {
		b.watched.stop()
	}
	if b.daemon != nil {
		problems = append(problems, b.daemon.Stop())
	}
	if b.mirror != nil {
		b.mirror.Close()
	}
	if b.repo != nil {
		b.repo.Close()
	}
	if b.cluster != nil {
		problems = append(problems, b.cluster.Stop())
	}
	return errors.Join(problems...)
}

// all takes the measures in an order in which none disturbs the next.
func (b *bench) all(ctx context.Context) error {
	for _, part := range []struct {
		name string
		take func(context.Context) error
	}{
		{"cold apply", b.coldApply},
		{"resync with nothing changed", b.resync},
		{"commit to live", b.commit},
		{"drift to corrected", b.drift},
		{"memory", b.memory},
	} {
		fmt.Printf("  %s\n", part.name)
		if err := part.take(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func (b *bench) add(r result) {
	r.Name = fmt.Sprintf("%d/%s", b.size, r.Name)
	b.results = append(b.results, r)
}

// drift measures the bare corrector on the raw objects, then Holdfast on its own,
// by the same edits and the same kind of watcher.
func (b *bench) drift(ctx context.Context) error {
	if err := settle(ctx, b.cluster); err != nil {
		return err
	}
	raw, err := bareDrift(ctx, b.cluster, rawAfter, pick(mixed(rawAfter, b.size, b.spaces), b.edits))
	if err != nil {
		return fmt.Errorf("bare corrector: %w", err)
	}
	if err := settle(ctx, b.cluster); err != nil {
		return err
	}
	t := newTracker()
	stop, err := observe(ctx, b.cluster.Config, ours, t.see)
	if err != nil {
		return err
	}
	defer stop()
	got, err := timeEdits(ctx, b.cluster.Objects, t, pick(b.objects, b.edits))
	if err != nil {
		return err
	}
	b.add(against("drift-p50", percentile(got, 0.5), percentile(raw, 0.5), 2))
	b.add(against("drift-p99", percentile(got, 0.99), percentile(raw, 0.99), 2))
	return nil
}

// memoryGoal is in MB, for 10,000 objects, and holds for fewer.
const memoryGoal = 80

// memory leaves the daemon alone for a while, as most of its life it is, and then
// reads what is resident. The peak, over everything before, counts its children.
func (b *bench) memory(ctx context.Context) error {
	if !canReadMemory() {
		fmt.Println("    not measured: there is no /proc here")
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(b.rest):
	}
	resident, err1 := field(b.daemon.PID(), "VmRSS")
	own, err2 := field(b.daemon.PID(), "RssAnon")
	peak, err3 := b.watched.peak()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	fmt.Printf("    at rest, %.1f MB are its own and %.1f MB pages of files\n", float64(own)/1e6, float64(resident-own)/1e6)
	b.add(within("memory-peak", float64(peak)/1e6, "MB", memoryGoal))
	b.add(within("memory-at-rest", float64(resident)/1e6, "MB", memoryGoal))
	return nil
}
