// Package kube is the Kubernetes driver: it compares what is wanted with what
// drift/kubelive knows of the cluster, and makes the writes: server-side apply in
// stages, pruning with proof of ownership, and the environment's parent object.
//
// It decides nothing: what is allowed to be written is the reconciler's Plan.
package kube
