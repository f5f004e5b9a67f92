package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	backendv1 "github.com/sockerless/sockerless/builder/gen/sockerless/backend/v1"
)

// mountSSH shows a step a socket at which the SSH agent of the build's client answers, for as long as the step lasts.
func (s *step) mountSSH(ctx context.Context, mount *pb.Mount) error {
	options := mount.SSHOpt
	if options == nil {
		return errors.New("invalid ssh mount options")
	}
	id := cmp.Or(options.ID, sshforward.DefaultID)
	var caller session.Caller
	err := s.sessions.Any(ctx, s.job.Session(), func(ctx context.Context, _ string, client session.Caller) error {
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
	socket, err := s.worker.forwardSSH(ctx, caller, id, options)
	if err != nil {
		return fmt.Errorf("forward an SSH agent: %w", err)
	}
	s.atEnd = append(s.atEnd, func(context.Context) error { return socket.close() })
	s.host.Mounts = append(s.host.Mounts, &backendv1.Mount{Type: "bind", Source: socket.path, Target: mount.Dest})
	return nil
}

// agentSocket forwards each of its connections to a client.
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
	// Sockets' paths are limited to 107 bytes, and this directory's may have more.
	opened, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/agent", opened.Fd())})
	if err != nil {
		return nil, err
	}
	// It goes with its directory.
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

func (a *agentSocket) serve(ctx context.Context, client session.Caller, id string) {
	defer close(a.ended)
	ctx = metadata.AppendToOutgoingContext(client.Context(ctx), sshforward.KeySSHID, id)
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		stream, err := sshforward.NewSSHClient(client.Conn()).ForwardAgent(ctx)
		if err != nil {
			// The program sees an agent that hangs up.
			conn.Close()
			continue
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		go func() {
			defer stop()
			_ = sshforward.Copy(ctx, conn, stream, stream.CloseSend)
		}()
	}
}

func (a *agentSocket) close() error {
	a.cut()
	err := a.listener.Close()
	<-a.ended
	return errors.Join(err, os.RemoveAll(filepath.Dir(a.path)))
}
