// Package exechold is for tests that look at a process in execve: it is already
// where the program is to run, and is not yet the program.
package exechold

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/descriptors"
)

// Hold keeps processes that execute a file waiting. It takes root.
type Hold struct{ events int } // of fanotify

// Executions begins to hold those of a file.
func Executions(file string) (*Hold, error) {
	events, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("hold executions: %w", err)
	}
	if err := unix.FanotifyMark(events, unix.FAN_MARK_ADD, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, file); err != nil {
		return nil, errors.Join(fmt.Errorf("hold executions of %s: %w", file, err), unix.Close(events))
	}
	return &Hold{events}, nil
}

// End lets everybody go.
func (h *Hold) End() { unix.Close(h.events) }

// Next waits for a process, has it looked at, and lets it go.
func (h *Hold) Next(limit time.Duration, look func(pid int)) error {
	if ready, err := descriptors.Readable(limit, h.events); err != nil || !ready {
		return errors.Join(errors.New("nothing is executed"), err)
	}
	var event unix.FanotifyEventMetadata
	data := make([]byte, binary.Size(event))
	if _, err := unix.Read(h.events, data); err != nil {
		return fmt.Errorf("hold an execution: %w", err)
	}
	if err := binary.Read(bytes.NewReader(data), binary.NativeEndian, &event); err != nil {
		return err
	}
	defer unix.Close(int(event.Fd))
	look(int(event.Pid))
	var answer bytes.Buffer
	if err := binary.Write(&answer, binary.NativeEndian, unix.FanotifyResponse{Fd: event.Fd, Response: unix.FAN_ALLOW}); err != nil {
		return err
	}
	_, err := unix.Write(h.events, answer.Bytes())
	return err
}

// Accessible tells whether root, with every capability but to trace, gets at
// what a process has open.
func Accessible(pid int) bool {
	return exec.Command("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all", "readlink", fmt.Sprintf("/proc/%d/fd/0", pid)).Run() == nil
}
