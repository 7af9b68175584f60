package daemon

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMaps bounds what is read of the list of mappings, in bytes.
const maxMaps = 4 << 20

// unmapProgram gives back the pages of the program's own file that were needed
// once: a start touches most of them, for initialization, schemes and templates,
// and an idle daemon nearly none. They stay in the page cache, as the first that
// may go, and what runs again is mapped again from there without a disk. The
// kernel may refuse, which loses nothing.
func unmapProgram() {
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // no /proc: there is nothing to find
	}
	defer maps.Close()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range untouchedMappings(io.LimitReader(maps, maxMaps), program) {
		for _, advice := range []uintptr{unix.MADV_COLD, unix.MADV_DONTNEED} {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, advice)
		}
	}
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// untouchedMappings are those of a file that cannot be written to, and of which
// no page differs from the file: a page that was relocated, or that a debugger has
// changed, would come back as it was in the file. The format is that of
// /proc/PID/smaps, see proc_pid_smaps(5).
func untouchedMappings(smaps io.Reader, file string) []mapping {
	var out []mapping
	var current mapping
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 3 && fields[0] == "Anonymous:":
			if fields[1] == "0" && current.to > current.from {
				out = append(out, current)
			}
			current = mapping{}
		case len(fields) >= 6 && strings.Contains(fields[0], "-"):
			// "00400000-00452000 r-xp 00000000 08:02 173521  /usr/bin/holdfast"
			current = mapping{}
			if strings.HasPrefix(fields[1], "r") && fields[1][1] == '-' && strings.Join(fields[5:], " ") == file {
				current = addresses(fields[0])
			}
		}
	}
	return out
}

// addresses reads "00400000-00452000"; what is none is an empty range.
func addresses(text string) mapping {
	low, high, _ := strings.Cut(text, "-")
	from, err1 := strconv.ParseUint(low, 16, 64)
	to, err2 := strconv.ParseUint(high, 16, 64)
	if err1 != nil || err2 != nil {
		return mapping{}
	}
	return mapping{uintptr(from), uintptr(to)}
}
