//go:build !linux

package daemon

// unmapProgram does nothing: only Linux is asked.
func unmapProgram() {}
