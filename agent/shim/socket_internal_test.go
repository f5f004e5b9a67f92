package shim

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/handover"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
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
			assert.NilError(t, err)
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
			assert.Check(t, <-written)
		})
	}
}

// forwarded serves a Docker socket with places, and returns how to connect to it and
// to accept at the frontend behind it.
func forwarded(t *testing.T, places int) (connect func() *net.UnixConn, frontend *net.UnixListener) {
	t.Helper()
	dir := t.TempDir()
	socket := shimspec.DockerSocket{Listen: filepath.Join(dir, "inside"), Forward: filepath.Join(dir, "frontend")}
	frontend, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket.Forward, Net: "unix"})
	assert.NilError(t, err)
	t.Cleanup(func() { frontend.Close() })
	sockets, err := serveDockerSockets([]shimspec.DockerSocket{socket}, places, slog.New(slog.DiscardHandler))
	assert.NilError(t, err)
	t.Cleanup(sockets.close)
	return func() *net.UnixConn {
		t.Helper()
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket.Listen, Net: "unix"})
		assert.NilError(t, err)
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}, frontend
}

func accept(t *testing.T, frontend *net.UnixListener) *net.UnixConn {
	t.Helper()
	_ = frontend.SetDeadline(time.Now().Add(20 * time.Second))
	conn, err := frontend.AcceptUnix()
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func TestConnectionsToADockerSocketHavePlaces(t *testing.T) {
	connect, frontend := forwarded(t, 2)
	clients := []*net.UnixConn{connect(), connect()}
	served := []*net.UnixConn{accept(t, frontend), accept(t, frontend)}
	third := connect()
	_ = frontend.SetDeadline(time.Now().Add(200 * time.Millisecond)) // time to pass it on too early
	if conn, err := frontend.AcceptUnix(); err == nil {
		conn.Close()
		t.Error("a third connection is passed on")
	}
	clients[0].Close()
	for _, conn := range served {
		conn.Close()
	}
	last := accept(t, frontend)
	_, _ = io.WriteString(third, "x")
	if n, err := last.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(err)
	}
}

func TestAConnectionWhoseFrontendHasClosedIsClosed(t *testing.T) {
	connect, frontend := forwarded(t, 1)
	client := connect()
	served := accept(t, frontend)
	// The end of one direction is not that of the connection.
	_, _ = io.WriteString(served, "answer")
	_ = served.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
		t.Fatalf("%q, %v", got, err)
	}
	_, _ = io.WriteString(client, "input")
	_, err := io.ReadFull(served, make([]byte, 5))
	assert.NilError(t, err)
	served.Close()
	// The client is silent, and its place is free for the next.
	connect()
	accept(t, frontend)
	_, err = client.Write([]byte("more"))
	assert.Check(t, is.ErrorIs(err, unix.EPIPE))
}
