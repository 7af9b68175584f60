package hostfiles

import (
	"syscall"
	"time"
)

// changeTime is when content or metadata last changed, which nobody can set.
func changeTime(st *syscall.Stat_t) time.Time { return time.Unix(st.Ctim.Unix()) }
