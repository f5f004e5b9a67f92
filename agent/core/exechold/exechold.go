// Package exechold lets tests inspect a process in execve: it is already in the
// container, but does not run the program yet.
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

// Hold suspends processes that execute a file. It needs root.
type Hold struct{ events int } // of fanotify

// Executions starts to suspend executions of a file.
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

// End releases every suspended process.
func (h *Hold) End() { unix.Close(h.events) }

// Next waits for a process, calls look with its PID, and releases it.
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

// Accessible reports whether root, with every capability except CAP_SYS_PTRACE,
// can read a process's descriptors.
func Accessible(pid int) bool {
	return exec.Command("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all", "readlink", fmt.Sprintf("/proc/%d/fd/0", pid)).Run() == nil
}
