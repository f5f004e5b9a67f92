// Package commandline reads processes' command lines, which their processes choose: one of prctl(2)'s calls, for which no
// privilege is needed, makes them gigabytes.
package commandline

import (
	"fmt"
	"io"
	"os"
)

// Limit is more than any command line of ours has, in bytes.
const Limit = 64 << 10

// Read returns a process's command line, arguments each followed by a NUL, or its
// first Limit bytes.
func Read(pid int) ([]byte, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, Limit))
}
