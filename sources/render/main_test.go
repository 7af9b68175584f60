package render_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-gitops/holdfast/sources/render"
)

// probeVariable starts the test binary as another process: with "render" as one
// that renders for long, else as one that tries what a child must not be able to
// do, and holds the address to connect to.
const probeVariable = "HOLDFAST_TEST_PROBE"

func TestMain(m *testing.M) {
	if render.IsChild() {
		os.Exit(render.ChildMain())
	}
	switch address := os.Getenv(probeVariable); address {
	case "":
	case "render":
		_, err := render.New(render.Options{}).Render(context.Background(), render.Request{Tree: slow(5000), Path: "."})
		fmt.Println(err)
		os.Exit(1)
	default:
		probe(address)
		os.Exit(0)
	}
	os.Exit(run(m))
}

// child is the program that renders, "" for this one.
var child string

// newRenderer is a renderer whose children are without the race detector.
func newRenderer(o render.Options) *render.Renderer {
	o.Executable = child
	return render.New(o)
}

func run(m *testing.M) int {
	if render.RaceEnabled {
		dir, err := os.MkdirTemp("", "holdfast-child")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		child = filepath.Join(dir, "child")
		build := exec.Command("go", "build", "-o", child, "github.com/holdfast-gitops/holdfast/internal/testkit/renderchild")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the child: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// probe prints the name of everything that still works once confined.
func probe(address string) {
	render.Confine(256 << 20)
	tries := map[string]func() error{
		"read a file":     func() error { _, err := os.ReadFile("/etc/hostname"); return err },
		"write a file":    func() error { return os.WriteFile(os.TempDir()+"/holdfast-probe", nil, 0o600) },
		"make a folder":   func() error { _, err := os.MkdirTemp("", "holdfast-probe"); return err },
		"connect":         func() error { _, err := net.Dial("tcp", address); return err },
		"listen":          func() error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err },
		"start a program": func() error { return exec.Command("/bin/true").Run() },
		"use file 3": func() error {
			_, err := os.NewFile(3, "inherited").Write([]byte("x"))
			return err
		},
	}
	for name, try := range tries {
		if try() == nil {
			fmt.Println("can " + name)
		}
	}
	fmt.Println("tried all")
}
