// Package sandbox builds and runs the control plane of examples/sandbox for
// tests. It knows the program only by its command line and the line it prints
// when ready, and needs no Kubernetes library.
package sandbox

// KubeconfigVariable names the environment variable that points tests to a
// cluster: the one sandbox of a whole test run, or any other.
const KubeconfigVariable = "HOLDFAST_TEST_KUBECONFIG"
