// Package reconciler decides what a run does and sees that it is done.
//
// An Engine holds one worker per environment, the only writer of that
// environment's objects. A worker renders what git asks for, has the target's
// Driver compare it with what is live, turns the comparison into a Plan, in
// which all policy lives, has the driver apply the plan, and records the result.
// Drift takes the same path for the objects that a hint names.
//
// The package is neutral: it knows operations on identified things, and nothing
// of Kubernetes, which is reconciler/kube's and drift/kubelive's business.
package reconciler
