// Package tracing sends traces of runs and of corrections to a collector, as
// OpenTelemetry's protocol over HTTP has them.
//
// It is told of a run when that has ended, with the times of its phases, and makes
// spans of them. So nothing is measured while nobody listens, and the engine needs
// to know nothing of spans. The protocol's messages are those of OpenTelemetry; its
// SDK and exporter are left out, as they bring a gRPC stack into the program.
package tracing
