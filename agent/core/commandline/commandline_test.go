package commandline

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

const lengthVariable = "COMMAND_LINE_LENGTH"

func TestMain(m *testing.M) {
	if length, err := strconv.Atoi(os.Getenv(lengthVariable)); err == nil {
		if err := lengthen(length); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("set")
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// memoryMap is the kernel's prctl_mm_map.
type memoryMap struct {
	startCode, endCode, startData, endData, startBreak, currentBreak uint64
	startStack, startArguments, endArguments, startEnv, endEnv       uint64
	auxiliary                                                        uint64
	auxiliarySize, executable                                        uint32
}

// lengthen makes this process's command line a region of that many zeros, which
// take no memory, behind an x.
func lengthen(length int) error {
	region, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	region[0] = 'x'
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	words := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	field := func(number int) uint64 { // as proc(5) counts
		value, _ := strconv.ParseUint(words[number-3], 10, 64)
		return value
	}
	start := uint64(uintptr(unsafe.Pointer(&region[0])))
	chosen := memoryMap{
		startCode: field(26), endCode: field(27), startStack: field(28),
		startData: field(45), endData: field(46), startBreak: field(47), currentBreak: field(47),
		startArguments: start, endArguments: start + uint64(length), startEnv: field(50), endEnv: field(51),
		executable: ^uint32(0),
	}
	return unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_MAP, uintptr(unsafe.Pointer(&chosen)), unsafe.Sizeof(chosen), 0)
}

func TestOfACommandLineOfGigabytesTheBeginningIsRead(t *testing.T) {
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), lengthVariable+"="+strconv.Itoa(4<<30))
	input, err := command.StdinPipe()
	assert.NilError(t, err)
	output, err := command.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, command.Start())
	defer func() {
		_ = input.Close()
		_ = command.Wait()
	}()
	said := make([]byte, 100)
	n, _ := output.Read(said)
	if got := string(said[:n]); got != "set\n" {
		t.Skipf("this kernel does not let a process choose: %s", got)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	line, err := Read(command.Process.Pid)
	runtime.ReadMemStats(&after)
	assert.NilError(t, err)
	if len(line) != Limit || line[0] != 'x' {
		t.Errorf("%d bytes were read", len(line))
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 16*Limit {
		t.Errorf("%d bytes of memory were taken", taken)
	}
}
