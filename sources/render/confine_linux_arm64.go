package render

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// legacySyscalls do what newer ones do under older numbers.
var legacySyscalls = []uint32{unix.SYS_RENAMEAT}
