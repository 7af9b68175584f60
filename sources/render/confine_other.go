//go:build !linux

package render

import (
	"os"
	"syscall"
)

// ownExecutable names the running binary.
func ownExecutable() string {
	name, err := os.Executable()
	if err != nil {
		// The start of the child then fails, and says with which name.
		return os.Args[0]
	}
	return name
}

func childAttributes() *syscall.SysProcAttr { return nil }

// confine relies on the memory watch and the refused network alone: systems
// other than Linux are for trying things out.
func confine(int64) {}
