package containerinit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// runSocket is a unix socket of one run: a caller accepts the connections that
// processes make to it.
type runSocket struct {
	listener *net.UnixListener
	made     chan net.Conn
	ended    chan struct{} // closed with the listener
}

// listenAt creates a socket at a free name in an existing directory.
func listenAt(name string, secret *agentv1.SecretFile) (*runSocket, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // the file is removed with the secrets
	s := &runSocket{listener: listener, made: make(chan net.Conn), ended: make(chan struct{})}
	if err := errors.Join(os.Lchown(name, int(secret.Uid), int(secret.Gid)), os.Chmod(name, os.FileMode(secret.Mode).Perm())); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	go s.serve()
	return s, nil
}

func (s *runSocket) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		select {
		case s.made <- conn:
		case <-s.ended:
			conn.Close()
		}
	}
}

func (s *runSocket) close() error {
	close(s.ended)
	return s.listener.Close()
}

var _ server.Called = (*container)(nil)

// errRunEnded means that no connection will come any more.
var errRunEnded = errors.New("the run has ended")

// AcceptAt waits for the next connection to a socket of the run.
func (c *container) AcceptAt(ctx context.Context, socket string) (net.Conn, error) {
	if roleOf(ctx) != controls {
		return nil, errNotForPartners
	}
	waited := c.stock.socketAt(socket)
	if waited == nil {
		return nil, fmt.Errorf("the run was given no socket %s", socket)
	}
	select {
	case conn := <-waited.made:
		return conn, nil
	case <-waited.ended:
		return nil, errRunEnded
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
