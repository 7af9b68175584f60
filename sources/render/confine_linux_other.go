//go:build linux && !amd64 && !arm64

package render

// auditArch is unknown for this processor, so no system calls are denied.
const auditArch = 0

var legacySyscalls []uint32
