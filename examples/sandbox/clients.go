package main

import (
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// clients are the clients of one identity.
type clients struct {
	config   *rest.Config
	kube     kubernetes.Interface
	metadata metadata.Interface
}

// newClients makes an identity's clients, without a rate limit.
func newClients(host string, ids *pki, id identity) (*clients, error) {
	config := &rest.Config{
		Host:      host,
		UserAgent: id.userAgent,
		QPS:       -1,
		TLSClientConfig: rest.TLSClientConfig{
			CAFile:   ids.cert("ca"),
			CertFile: ids.cert(id.file),
			KeyFile:  ids.key(id.file),
		},
	}
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	kube, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, fmt.Errorf("set up the client of %s: %w", id.user, err)
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("set up the metadata client of %s: %w", id.user, err)
	}
	return &clients{config: config, kube: kube, metadata: meta}, nil
}
