//go:build !linux

package sandbox

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// awaitFrozen waits until a child has stopped: the signal alone only asks for it.
func awaitFrozen(pid int) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
		if err != nil {
			return fmt.Errorf("wait until process %d has stopped: %w", pid, err)
		}
		if strings.HasPrefix(strings.TrimSpace(string(state)), "T") {
			return nil
		}
		<-tick.C
	}
}
