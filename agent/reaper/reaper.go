// Package reaper is the init of `docker run --init`: PID 1 of a container whose
// command does not act as one. It starts the command, forwards every signal to
// it, reaps orphans, and exits with the command's exit code.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes of a command that cannot be executed, as in shells.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// Main runs `docker-init [--] COMMAND [ARGUMENT…]` and returns the exit code.
func Main(arguments []string) int {
	if len(arguments) > 0 && arguments[0] == "--" {
		arguments = arguments[1:]
	}
	if len(arguments) == 0 {
		fmt.Fprintln(os.Stderr, "docker-init: no command")
		return exitNotFound
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals) // before the command exists: none is lost
	pid, err := start(arguments)
	if err != nil {
		fmt.Fprintf(os.Stderr, "[FATAL] docker-init: exec %s failed: %v\n", arguments[0], err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return exitNotFound
		}
		return exitNotExecutable
	}
	for {
		if status, ended := reap(pid); ended {
			return status
		}
		if caught := (<-signals).(syscall.Signal); forwarded(caught) {
			_ = unix.Kill(pid, caught) // it may have just ended
		}
	}
}

// forwarded reports whether a signal is for the command, rather than for this
// process (SIGCHLD) or Go's runtime.
func forwarded(caught syscall.Signal) bool {
	switch caught {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE:
		return false
	}
	return true
}

// start runs the command in its own process group, in the foreground of the
// terminal if there is one, so that ctrl-C reaches all of it once.
func start(arguments []string) (pid int, err error) {
	path, err := exec.LookPath(arguments[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return 0, err
	}
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		attributes = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	return syscall.ForkExec(path, arguments, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   attributes,
	})
}

// reap collects every child that has ended, and returns the command's exit code
// if it is among them.
func reap(command int) (exitCode int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return exitCode, ended
		}
		if pid != command {
			continue
		}
		ended = true
		exitCode = status.ExitStatus()
		if status.Signaled() {
			exitCode = 128 + int(status.Signal())
		}
	}
}
