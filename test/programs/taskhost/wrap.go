package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// wrap runs a program as process 1's only child of its own: it passes signals
// on, reaps what others leave, and ends as the program ends.
func wrap(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: taskhost wrap PROGRAM [ARGUMENT]")
	}
	file, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	child, err := os.StartProcess(file, args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	for received := range signals {
		switch received {
		case syscall.SIGCHLD:
			reap(func(pid, code int) {
				if pid == child.Pid {
					os.Exit(code)
				}
			})
		case syscall.SIGURG: // the Go runtime's own
		default:
			_ = child.Signal(received)
		}
	}
	return nil
}
