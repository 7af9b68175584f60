// Package kubelive reads a Kubernetes cluster: it watches what we own by
// metadata alone, knows of every owned object whether it may have left what was
// applied, and compares a live object with the server's merged result of our
// last apply, field by field.
//
// It only reads. Writes, and the decision to make them, belong to
// reconciler/kube and reconciler; what a write answered comes back here as the
// object's new baseline.
package kubelive
