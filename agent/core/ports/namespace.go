package ports

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DialInNamespace dials inside the network namespace at path; an empty path means
// this process's own.
func DialInNamespace(path string) Dial {
	if path == "" {
		var dialer net.Dialer
		return dialer.DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		namespace, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open network namespace: %w", err)
		}
		defer namespace.Close()
		return dialFrom(ctx, namespace, network, address)
	}
}

// dialFrom creates the socket on a thread inside the namespace, where it stays.
// The address is numeric, so the dialer uses no other goroutine.
func dialFrom(ctx context.Context, namespace *os.File, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	defer own.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter network namespace: %w", err)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back == nil {
		runtime.UnlockOSThread() // else the thread ends with its goroutine
	}
	return conn, err
}
