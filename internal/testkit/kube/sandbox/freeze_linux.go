package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// awaitFrozen waits until all threads of a child have stopped: the signal alone
// only asks for it. The child's state is left for others to wait for.
func awaitFrozen(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				return fmt.Errorf("wait until process %d has stopped: %w", pid, err)
			}
			return nil
		}
	}
}
