package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube/sandbox"
)

// asProgram makes the test binary act as the program.
const asProgram = "SANDBOXCTL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestWithSandboxForwardsSignalsAndTheExitCode(t *testing.T) {
	t.Parallel()
	// The command confirms the signal by its code; cat keeps it until then.
	cmd, dir := withSandboxRunning(t, `trap 'exit 7' TERM`, `cat <&3 & wait`)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("ended with %v, want the command's exit code 7", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the sandbox's directory %s is left behind (%v)", dir, err)
	}
}

func TestSandboxEndsWithAKilledParent(t *testing.T) {
	t.Parallel()
	cmd, dir := withSandboxRunning(t, `:`, `cat <&3`)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The sandbox removes its directory as the last thing it does.
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a minute after its parent was killed the sandbox in %s is still there (%v)", dir, err)
		}
		<-tick.C
	}
}

func TestUnknownArgumentsAreRefusedWithUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"with-sandbox"}, {"with-sandbox", "--"}, {"with-sandbox", "true"}, {"buidl"}} {
		if code, err := run(args); code != 2 || err == nil || !strings.Contains(err.Error(), "usage:") {
			t.Errorf("%q: code %d, error %v", args, code, err)
		}
	}
}

// withSandboxRunning starts the program with a shell script, whose descriptor 3
// ends with the test. It returns between the two parts of the script, with the
// sandbox's directory.
func withSandboxRunning(t *testing.T, before, after string) (cmd *exec.Cmd, dir string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	cmd = exec.Command(os.Args[0], "with-sandbox", "--", "sh", "-c",
		before+`; exec 3<&0; echo "$`+sandbox.KubeconfigVariable+`"; `+after)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = stdin.Close()
	})
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatalf("it ended before it ran the command: %v", cmd.Wait())
	}
	dir = filepath.Dir(lines.Text())
	if _, err := os.Stat(lines.Text()); err != nil {
		t.Fatalf("the command has no kubeconfig: %v", err)
	}
	return cmd, dir
}
