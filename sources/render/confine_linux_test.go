package render_test

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

func TestConfinedProcessReachesNothing(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("system calls are denied on amd64 and arm64 only")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	inherited, err := os.Create(t.TempDir() + "/inherited")
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{probeVariable + "=" + listener.Addr().String(), "TMPDIR=" + t.TempDir()}
	cmd.ExtraFiles = []*os.File{inherited}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "tried all\n" {
		t.Errorf("a confined process %s(%v)", out, err)
	}
	if info, err := inherited.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("it wrote to an inherited file: %v bytes, %v", info.Size(), err)
	}
}
