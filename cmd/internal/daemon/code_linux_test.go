package daemon

import "testing"

func TestOnlyReadOnlyMappingsOfTheProgramAreReleased(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-02a00000 r-xp 00000000 fe:01 123 /usr/bin/holdfast":      true,
		"02a00000-05000000 r--p 02600000 fe:01 123 /usr/bin/holdfast":      true,
		"05000000-05200000 rw-p 04c00000 fe:01 123 /usr/bin/holdfast":      false,
		"7f0000000000-7f0000100000 r--p 00000000 fe:01 9 /usr/lib/libc.so": false,
		"c000000000-c000400000 rw-p 00000000 00:00 0":                      false,
		"7ffd1000-7ffd2000 r--s 00000000 fe:01 123 /usr/bin/holdfast":      false,
		"bad": false, "": false,
	} {
		if _, size, ok := codeIn(line, "/usr/bin/holdfast"); ok != want || ok && size == 0 {
			t.Errorf("%q: %v of %d bytes, want %v", line, ok, size, want)
		}
	}
	releaseCode() // and the program goes on
}
