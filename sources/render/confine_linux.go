package render

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownExecutable names the running binary, also after its file was replaced by an
// upgrade: a child of another version would speak another protocol.
func ownExecutable() string {
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err == nil {
		return self
	}
	name, err := os.Executable()
	if err != nil {
		// The start of the child then fails, and says with which name.
		return self
	}
	return name
}

// childAttributes make the child end with its parent, even one that is killed,
// and keep it out of the signals of the parent's terminal.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// confine gives up what a render does not need. Each step is one of several
// walls: where a system refuses one, the others hold.
func confine(memory int64) {
	closeInherited()
	if !raceEnabled {
		// The race detector's own tables are counted as data. The room above the
		// bound lets the watch, which can say why, come first.
		hard := uint64(memory) + uint64(memory)/4 + 64<<20
		_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: hard, Max: hard})
	}
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = denySyscalls(deniedSyscalls)
}

// closeInherited closes the files that the parent's own parent left open. The
// runtime's own, by which it waits, must stay.
func closeInherited() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") || strings.HasPrefix(target, "/sys/fs/cgroup/") {
			continue
		}
		_ = unix.Close(fd)
	}
}

// denySyscalls makes system calls fail with EPERM in all threads, for good.
func denySyscalls(denied []uint32) error {
	if auditArch == 0 {
		return unix.ENOSYS
	}
	program := filter(denied)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return errno
	}
	return nil
}

// filter is the program that the kernel runs for each system call.
func filter(denied []uint32) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		above  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
		// Offsets in struct seccomp_data.
		number, arch = 0, 4
		refuse       = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		// Bit 30 marks the x32 calls of amd64, which would go around the list.
		x32 = 0x40000000
	)
	program := []unix.SockFilter{
		{Code: load, K: arch},
		{Code: equal, K: auditArch, Jt: 1},
		{Code: answer, K: refuse},
		{Code: load, K: number},
		{Code: above, K: x32, Jf: 1},
		{Code: answer, K: refuse},
	}
	for _, call := range denied {
		program = append(program,
			unix.SockFilter{Code: equal, K: call, Jf: 1},
			unix.SockFilter{Code: answer, K: refuse})
	}
	return append(program, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
}

// deniedSyscalls open files, reach networks, start programs or touch other
// processes. io_uring could do the same behind the filter's back.
var deniedSyscalls = append([]uint32{
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_UNLINKAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
	unix.SYS_RENAMEAT2, unix.SYS_TRUNCATE, unix.SYS_FCHMODAT, unix.SYS_FCHOWNAT, unix.SYS_CHROOT,
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN,
	unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_KILL,
	unix.SYS_IO_URING_SETUP, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL,
}, legacySyscalls...)
