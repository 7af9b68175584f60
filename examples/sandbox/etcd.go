package main

import (
	"context"
	"fmt"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
)

// database is the etcd that holds the cluster's objects.
type database struct {
	etcd     *embed.Etcd
	endpoint string
	failed   <-chan error
}

// startEtcd starts a single-member etcd on a Unix socket: it speaks without
// authentication, so its directory's permissions have to guard it.
func startEtcd(ctx context.Context, d *directory) (*database, error) {
	listen := url.URL{Scheme: "unix", Host: socketFile}
	// There are no peers, so nothing listens for them; the name is only needed
	// to be somebody in one's own member list.
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}

	cfg := embed.NewConfig()
	cfg.Name = "sandbox"
	cfg.Dir = d.path("etcd")
	cfg.ListenClientUrls = []url.URL{listen}
	cfg.AdvertiseClientUrls = []url.URL{listen}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{self}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	// Writes survive the end of this process, in the kernel's memory, but not
	// of the machine. A sandbox lives no longer, and tests run faster.
	cfg.UnsafeNoFsync = true
	// Nobody else can win the election: do not wait a second for it.
	cfg.TickMs, cfg.ElectionMs = 50, 250
	cfg.EnableGRPCGateway = false
	cfg.LogLevel = "error"
	cfg.LogOutputs = []string{d.path(etcdLogFile)}

	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	db := &database{etcd: e, endpoint: listen.String(), failed: e.Err()}
	select {
	case <-e.Server.ReadyNotify():
		return db, nil
	case err := <-e.Err():
		db.close()
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	case <-ctx.Done():
		db.close()
		return nil, ctx.Err()
	}
}

// close stops etcd, which takes its time when clients hold watches open.
func (db *database) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.etcd.Close()
	}()
	awaitStop("etcd", done)
}
