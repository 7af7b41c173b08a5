package archivetest

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/promised"
)

// A Refusal makes a system call fail as on a file system that lacks it: every call whose argument number
// Arg, counted from 0, has the Value in the bits of Mask.
type Refusal struct {
	Call        uintptr // unix.SYS_...
	Arg         int
	Mask, Value uint32
	Err         unix.Errno
}

// The calls that tests refuse.
var (
	RenameNoReplace = Refusal{
		Call: unix.SYS_RENAMEAT2, Arg: 4, Mask: unix.RENAME_NOREPLACE, Value: unix.RENAME_NOREPLACE,
	}
	Link     = Refusal{Call: unix.SYS_LINKAT}
	SetLease = Refusal{Call: unix.SYS_FCNTL, Arg: 1, Mask: ^uint32(0), Value: unix.F_SETLEASE}
	Fsync    = Refusal{Call: unix.SYS_FSYNC}
	Syncfs   = Refusal{Call: unix.SYS_SYNCFS}
	Fchmod   = Refusal{Call: unix.SYS_FCHMOD}
	Fchown   = Refusal{Call: unix.SYS_FCHOWN}
	Utimens  = Refusal{Call: unix.SYS_UTIMENSAT}
)

// With returns these refusals with the error err.
func With(err unix.Errno, calls ...Refusal) []Refusal {
	for i := range calls {
		calls[i].Err = err
	}
	return calls
}

// Refuse runs the calling test again, in a process of its own in which the kernel refuses these calls. It
// returns true there and false here. The kernel refuses them to the programs that the test starts there,
// too. Without refusals it returns true at once.
func Refuse(t *testing.T, refusals ...Refusal) bool {
	t.Helper()
	if len(refusals) == 0 {
		return true
	}
	if !again(t, "TUNNELCAST_TEST_REFUSALS", nil) {
		return false
	}
	if err := filter(refusals); err != nil {
		promised.Lacking(t, "refuse system calls: ", err)
	}
	return true
}

// filter refuses the calls to all threads of this process, irrevocably (seccomp(2)).
func filter(refusals []Refusal) error {
	statement := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	equal := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: skip}
	}
	// struct seccomp_data has the call's number and, from offset 16, its arguments, the lower half first
	// on the architectures that we build for.
	var program []unix.SockFilter
	for _, r := range refusals {
		program = append(program,
			statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0),
			equal(uint32(r.Call), 4),
			statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 16+8*uint32(r.Arg)),
			statement(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, r.Mask),
			equal(r.Value, 1),
			statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(r.Err)))
	}
	program = append(program, statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	length := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	other, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&length)))
	switch {
	case errno != 0:
		return errno
	case other != 0:
		return errors.New("a thread has another filter")
	}
	return nil
}
