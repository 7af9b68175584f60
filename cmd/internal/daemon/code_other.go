//go:build !linux

package daemon

// releaseCode does nothing where it is not known how.
func releaseCode() {}
