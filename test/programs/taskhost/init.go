package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// runInit is process 1 of the simulator's PID, mount and network namespaces. It
// prints "ready", then "PID STATUS" for each process that ends as its child,
// STATUS being what a shell would show (128+n for a signal). It leaves when
// standard input ends, that is with the simulator however that ends, and the
// kernel then takes every process, mount and interface of the namespaces.
func runInit() error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	// Names of network namespaces are the simulator's own too.
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := os.Mkdir("/run/netns", 0o755); err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		for range ended {
			reap()
		}
	}()
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// reap tells of every child that has ended: signals of many may come as one.
func reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		code := status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
		fmt.Println(pid, code)
	}
}
