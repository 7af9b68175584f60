package main

import (
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// defaultRuntime is how long a container that is to end runs when its command
// does not say.
const defaultRuntime = time.Second

// conduct is what a container would do, as far as its command says so.
type conduct struct {
	ends    bool          // it ends by itself, after that long, with that code
	after   time.Duration // how long it sleeps first
	code    int32
	forever bool // it sleeps and never wakes
}

var (
	exitCommand  = regexp.MustCompile(`(?:^|[\s;&|(])exit\s+(\d+)`)
	sleepCommand = regexp.MustCompile(`(?:^|[\s;&|(/])sleep\s+(\d+|inf)`)
)

// behaviour reads a container's command, since nothing executes it. It knows
// three words, enough to show jobs that succeed, fail, or take their time, and
// servers that crash: "sleep N" (or infinity), "exit N" and "false".
func behaviour(c corev1.Container) conduct {
	return commandBehaviour(append(append([]string(nil), c.Command...), c.Args...))
}

func commandBehaviour(command []string) conduct {
	var b conduct
	line := strings.Join(command, " ")
	if m := sleepCommand.FindStringSubmatch(line); m != nil {
		b.ends = true
		seconds, err := strconv.Atoi(m[1])
		// Too large a number is as good as infinity.
		b.forever = err != nil
		b.after = time.Duration(seconds) * time.Second
	}
	if m := exitCommand.FindStringSubmatch(line); m != nil {
		b.ends = true
		code, err := strconv.Atoi(m[1])
		if err != nil || code > 255 {
			code = 255
		}
		b.code = int32(code)
	} else if len(command) > 0 && path.Base(command[0]) == "false" {
		b.ends, b.code = true, 1
	}
	return b
}

// probeSucceeds tells what a probe answers: only a command can fail, as there is
// nothing to connect to.
func probeSucceeds(p *corev1.Probe) bool {
	return p == nil || p.Exec == nil || commandBehaviour(p.Exec.Command).code == 0
}
