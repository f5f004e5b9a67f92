package decisiontree_test

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/shim/decisiontree"
)

// loading answers the processor time in nanoseconds that the kernel takes to load
// a filter into a thread, which ends then.
func loading(filter []byte) (nanoseconds int64, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		program := unix.SockFprog{Len: uint16(len(filter) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(filter)))}
		var before, after unix.Timespec
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return
		}
		err = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before)
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
		if errno != 0 {
			err = errno
			return
		}
		err = errors.Join(err, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after))
		nanoseconds = after.Nano() - before.Nano()
	}()
	<-done
	return nanoseconds, err
}

func TestTheKernelTakesWhatIsMade(t *testing.T) {
	for _, name := range []string{"docker", "strict", "denies", "verdicts", "one", "optimized"} {
		if _, err := loading(decisiontree.Equivalent(recorded(t, name))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkLoading has both by turns, on one machine under one load.
func BenchmarkLoading(b *testing.B) {
	original := recorded(b, "docker")
	made := decisiontree.Equivalent(original)
	var times [2]int64
	for b.Loop() {
		for i, filter := range [][]byte{original, made} {
			taken, err := loading(filter)
			must(b, err)
			times[i] += taken
		}
	}
	b.ReportMetric(float64(times[0])/float64(b.N), "ns/original")
	b.ReportMetric(float64(times[1])/float64(b.N), "ns/made")
}

func BenchmarkMaking(b *testing.B) {
	original := recorded(b, "docker")
	for b.Loop() {
		decisiontree.Equivalent(original)
	}
}
