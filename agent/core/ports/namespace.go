package ports

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/sockerless/sockerless/agent/core/netns"
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
		var conn net.Conn
		// The address is numeric, so that the dialer uses no other goroutine.
		err = netns.Inside(int(namespace.Fd()), func() (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
