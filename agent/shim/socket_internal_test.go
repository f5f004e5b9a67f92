package shim

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/handover"
)

// A client that reads late gets a stream's header separately, as without a relay
// in between.
func TestOutputFollowsTheHeaderThroughADockerSocket(t *testing.T) {
	for name, header := range map[string]string{
		"upgraded": "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\n",
		"raw":      "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			var conns [2]*net.UnixConn
			for i, fd := range pair {
				if conns[i], err = handover.ConnectionOf(fd); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conns[i].Close() })
			}
			client, served := conns[0], relayed{conns[1], time.Minute}
			written := make(chan error, 1)
			go func() {
				_, first := io.WriteString(served, header)
				_, second := io.WriteString(served, "output")
				written <- errors.Join(first, second, served.CloseWrite())
			}()
			time.Sleep(20 * time.Millisecond) // time to pass it on too early
			_ = client.SetReadDeadline(time.Now().Add(30 * time.Second))
			all := make([]byte, 1000)
			if n, err := client.Read(all); err != nil || string(all[:n]) != header {
				t.Fatalf("%q, %v", all[:n], err)
			}
			if got, err := io.ReadAll(client); err != nil || string(got) != "output" {
				t.Fatalf("%q, %v", got, err)
			}
			if err := <-written; err != nil {
				t.Error(err)
			}
		})
	}
}
