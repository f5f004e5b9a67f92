package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/accepting"
	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/ports"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// dockerSockets are the Docker API sockets inside the container. Each connection
// is forwarded to the frontend that serves the socket at that moment, so they
// outlive a frontend.
type dockerSockets struct {
	listeners []*net.UnixListener
	places    *semaphore.Weighted // one for each connection
	cancel    context.CancelFunc
	serving   sync.WaitGroup
}

// serveDockerSockets creates the socket files and starts to forward; most bounds
// the connections of all of them.
func serveDockerSockets(sockets []shimspec.DockerSocket, most int, logger *slog.Logger) (*dockerSockets, error) {
	ctx, cancel := context.WithCancel(context.Background())
	d := &dockerSockets{cancel: cancel, places: semaphore.NewWeighted(int64(most))}
	for _, socket := range sockets {
		listener, err := listenLike(socket)
		if err != nil {
			d.close()
			return nil, err
		}
		d.listeners = append(d.listeners, listener)
		d.serving.Add(1)
		go func() {
			defer d.serving.Done()
			d.serve(ctx, listener, socket.Forward, logger)
		}()
	}
	return d, nil
}

// listenLike listens at a path with mode 0660 and the owner of the socket behind
// it, so that the same users may connect.
func listenLike(socket shimspec.DockerSocket) (*net.UnixListener, error) {
	if err := os.Remove(socket.Listen); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace an old Docker socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket.Listen, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on a Docker socket: %w", err)
	}
	err = os.Chmod(socket.Listen, 0o660)
	var owner unix.Stat_t
	if err == nil && unix.Stat(socket.Forward, &owner) == nil {
		err = os.Chown(socket.Listen, int(owner.Uid), int(owner.Gid))
	}
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("set up a Docker socket: %w", err)
	}
	return listener, nil
}

// serve forwards until the listener is closed.
func (d *dockerSockets) serve(ctx context.Context, listener *net.UnixListener, forward string, logger *slog.Logger) {
	accepting.Serve(ctx, d.places, listener.AcceptUnix,
		func(err error) { logger.Warn("accept on a Docker socket", "error", err) },
		func(client *net.UnixConn) {
			defer client.Close()
			server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: forward, Net: "unix"})
			if err != nil {
				logger.Warn("no frontend behind a Docker socket", "error", err)
				return
			}
			defer server.Close()
			ctx, cut := context.WithCancel(ctx)
			defer cut()
			ports.Join(ctx, relayed{client, handover.HeaderLead}, server, func() {
				handover.AwaitHangUp(server)
				cut()
			})
		})
}

// relayed is a client whose responses pass through this process: a writer of
// output sees when this process has read the header before it, not when the
// client has.
type relayed struct {
	*net.UnixConn
	headerLead time.Duration
}

// streamHeads begin the responses that become streams (src/frontend/hijack.ts).
var streamHeads = [][]byte{
	[]byte("HTTP/1.1 101 "),
	[]byte("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"),
}

func (r relayed) Write(data []byte) (int, error) {
	n, err := r.UnixConn.Write(data)
	if err == nil && slices.ContainsFunc(streamHeads, func(head []byte) bool { return bytes.HasPrefix(data, head) }) {
		handover.AwaitRead(r.UnixConn, r.headerLead)
	}
	return n, err
}

// close ends every connection and removes the socket files.
func (d *dockerSockets) close() {
	for _, listener := range d.listeners {
		listener.Close()
	}
	d.cancel()
	d.serving.Wait()
}
