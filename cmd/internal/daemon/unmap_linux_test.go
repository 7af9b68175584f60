package daemon

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What the program runs and reads goes on as before when its pages were given
// back, and fewer of them are resident.
func TestUnmappedProgramGoesOn(t *testing.T) {
	work := func() string {
		return strings.Repeat(regexp.MustCompile(`(\d+)-(\d+)`).ReplaceAllString("12-34", "$2-$1"), 3)
	}
	want, before := work(), residentOfFiles(t)
	unmapProgram()
	after := residentOfFiles(t)
	if got := work(); got != want {
		t.Errorf("the same work gives %q, and gave %q before", got, want)
	}
	if after >= before {
		t.Errorf("%d kB of files are resident after giving back, and %d were before", after, before)
	}
}

func residentOfFiles(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Skip("this kernel does not tell RssFile")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Only what cannot have changed since it was read from the file is given back.
func TestUntouchedMappings(t *testing.T) {
	const smaps = `00400000-00452000 r-xp 00000000 08:02 173521                             /opt/hold fast
Rss:                  20 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00452000-00460000 r--p 00052000 08:02 173521                             /opt/hold fast
Rss:                  20 kB
Anonymous:             4 kB
00460000-00470000 rw-p 00060000 08:02 173521                             /opt/hold fast
Anonymous:             0 kB
00470000-00480000 r--p 00070000 08:02 173521                             /opt/hold fast
Anonymous:             0 kB
00480000-00490000 ---p 00070000 08:02 173521                             /opt/hold fast
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 08:02 99                         /lib/libc.so
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
nonsense
`
	got := untouchedMappings(bytes.NewReader([]byte(smaps)), "/opt/hold fast")
	want := []mapping{{0x400000, 0x452000}, {0x470000, 0x480000}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("given back would be %x, want %x", got, want)
	}
}
