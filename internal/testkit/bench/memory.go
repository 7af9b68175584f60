package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory follows the resident memory of a process and of its children, which
// exist only while a kustomization is built. It needs /proc, as on Linux.
type memory struct {
	pid    int
	most   int64
	cancel context.CancelFunc
	ended  chan struct{}
}

func canReadMemory() bool {
	_, err := os.Stat("/proc/self/status")
	return err == nil
}

// watchMemory samples until stop or peak is called.
func watchMemory(pid int) *memory {
	ctx, cancel := context.WithCancel(context.Background())
	m := &memory{pid: pid, cancel: cancel, ended: make(chan struct{})}
	go m.sample(ctx)
	return m
}

func (m *memory) sample(ctx context.Context) {
	defer close(m.ended)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		m.most = max(m.most, m.sum())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *memory) stop() {
	m.cancel()
	<-m.ended
}

// peak is the most that was resident at once: the kernel's own mark of the
// process, or the sampled sum with the children if that is more.
func (m *memory) peak() (int64, error) {
	m.stop()
	mark, err := field(m.pid, "VmHWM")
	return max(mark, m.most), err
}

func (m *memory) sum() int64 {
	total, err := field(m.pid, "VmRSS")
	if err != nil {
		return 0 // it has ended
	}
	for _, child := range children(m.pid) {
		// One that has ended meanwhile has none.
		rss, _ := field(child, "VmRSS")
		total += rss
	}
	return total
}

// field reads a number of kilobytes from a process's status, as bytes.
func field(pid int, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the daemon's memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read the daemon's memory: the kernel does not tell %s", name)
}

// children are the processes that a process has started. A kernel that does not
// tell has none to tell of.
func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var out []int
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for word := range strings.FieldsSeq(string(text)) {
			if id, err := strconv.Atoi(word); err == nil {
				out = append(out, id)
			}
		}
	}
	return out
}

// tick is the unit in which the kernel tells processor time.
const tick = 10 * time.Millisecond

// processorTime is what a process has used so far, without its children.
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time: %w", err)
	}
	// The name in parentheses may hold anything; after it, the twelfth and the
	// thirteenth field are the time in user and in system mode.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("read the processor time: the kernel does not tell it")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}
