package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// mountSSH gives a step a socket connected to the SSH agent of the build's client while the step lasts: a socket of
// this machine, or one in the container.
func (s *step) mountSSH(ctx context.Context, mount *pb.Mount) error {
	options := mount.SSHOpt
	if options == nil {
		return errors.New("invalid ssh mount options")
	}
	id := cmp.Or(options.ID, sshforward.DefaultID)
	var caller session.Caller
	err := s.ask(ctx, func(ctx context.Context, client session.Caller) error {
		err := sshforward.CheckSSHID(ctx, client, id)
		switch {
		case err == nil:
			caller = client
		case options.Optional:
			return nil
		case grpcerrors.Code(err) == codes.Unimplemented:
			return fmt.Errorf("no SSH key %q forwarded from the client", id)
		}
		return err
	})
	if err != nil || caller == nil {
		return err
	}
	if s.worker.mountsDirectoriesOnly {
		s.secrets.Files = append(s.secrets.Files, &backendv1.SecretFile{
			Path: mount.Dest, Socket: true, Mode: options.Mode & 0o777, Uid: options.Uid, Gid: options.Gid,
		})
		s.sshAgents = append(s.sshAgents, sshAgent{mount.Dest, caller, id})
		return nil
	}
	socket, err := s.worker.forwardSSH(ctx, caller, id, options)
	if err != nil {
		return fmt.Errorf("forward an SSH agent: %w", err)
	}
	s.atEnd = append(s.atEnd, func(context.Context) error { return socket.close() })
	s.host.Mounts = append(s.host.Mounts, &backendv1.Mount{Type: "bind", Source: socket.path, Target: mount.Dest})
	return nil
}

// sshAgent is a client's SSH agent, reachable at a socket of a step's container.
type sshAgent struct {
	socket string
	client session.Caller
	id     string
}

// maxSSHConnections bounds a step's concurrent connections to one agent.
const maxSSHConnections = 64

// maxAgentConnections bounds those of all steps, which leaves most of this machine's 20,000 descriptors.
const maxAgentConnections = 2048

var agentConnections = semaphore.NewWeighted(maxAgentConnections)

// acceptPause is the pause after a failed accept.
const acceptPause = 200 * time.Millisecond

// forward accepts connections to the socket, which end with ctx, until that is done. Excess ones wait in its queue,
// without a descriptor here; all wait while the container is unreachable, or this machine lacks descriptors.
func (a sshAgent) forward(ctx context.Context, accept func() (io.ReadWriteCloser, error)) {
	free := semaphore.NewWeighted(maxSSHConnections)
	for free.Acquire(ctx, 1) == nil {
		conn, err := accept()
		if err != nil {
			free.Release(1)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		if agentConnections.Acquire(ctx, 1) != nil {
			conn.Close()
			return
		}
		go func() {
			defer free.Release(1)
			defer agentConnections.Release(1)
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			forwardConnection(ctx, a.client, a.id, conn)
		}()
	}
}

// forwardConnection connects conn to a client's agent, and closes it. ctx ends the client's side.
func forwardConnection(ctx context.Context, client session.Caller, id string, conn io.ReadWriteCloser) {
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(client.Context(ctx), sshforward.KeySSHID, id)
	stream, err := sshforward.NewSSHClient(client.Conn()).ForwardAgent(ctx)
	if err != nil {
		return // to the program the agent hangs up
	}
	_ = sshforward.Copy(ctx, conn, stream, stream.CloseSend)
}

// agentSocket forwards each of its connections to a client's agent.
type agentSocket struct {
	path     string
	listener net.Listener
	cut      context.CancelFunc
	ended    chan struct{}
}

func (w *Worker) forwardSSH(ctx context.Context, client session.Caller, id string, options *pb.SSHOpt) (_ *agentSocket, err error) {
	dir, err := os.MkdirTemp(w.scratch, "ssh-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	// Sockets' paths are limited to 107 bytes, which this directory's path may exceed.
	opened, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/agent", opened.Fd())})
	if err != nil {
		return nil, err
	}
	// It is removed with its directory.
	listener.SetUnlinkOnClose(false)
	ctx, cut := context.WithCancel(ctx)
	made := &agentSocket{path: filepath.Join(dir, "agent"), listener: listener, cut: cut, ended: make(chan struct{})}
	if err := errors.Join(os.Chown(made.path, int(options.Uid), int(options.Gid)), os.Chmod(made.path, os.FileMode(options.Mode&0o777))); err != nil {
		cut()
		return nil, errors.Join(err, listener.Close())
	}
	go made.serve(ctx, client, id)
	return made, nil
}

// serve accepts connections until ctx is done and the listener is closed.
func (a *agentSocket) serve(ctx context.Context, client session.Caller, id string) {
	defer close(a.ended)
	sshAgent{client: client, id: id}.forward(ctx, func() (io.ReadWriteCloser, error) { return a.listener.Accept() })
}

func (a *agentSocket) close() error {
	a.cut()
	err := a.listener.Close()
	<-a.ended
	return errors.Join(err, os.RemoveAll(filepath.Dir(a.path)))
}
