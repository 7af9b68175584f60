package config

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// systemDataDir is where an installed daemon keeps its data.
const systemDataDir = "/var/lib/holdfast"

// SocketName is the name of the daemon's socket in the data directory.
const SocketName = "holdfast.sock"

// DefaultDataDir is the data directory when none is said. Daemon and CLI both
// ask here, which is how they find each other: $HOLDFAST_DATA_DIR, else
// /var/lib/holdfast if it can be written, else below the user's state folder.
func DefaultDataDir() string {
	if dir := os.Getenv("HOLDFAST_DATA_DIR"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
		return dir
	}
	if unix.Access(systemDataDir, unix.W_OK) == nil {
		return systemDataDir
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "holdfast")
	}
	home, err := os.UserHomeDir()
	if err != nil { // no home, as in a minimal container: what is left is the system's
		return systemDataDir
	}
	return filepath.Join(home, ".local", "state", "holdfast")
}
