package backend

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/builder/gen/sockerless/agent/v1"
	backendv1 "github.com/sockerless/sockerless/builder/gen/sockerless/backend/v1"
)

// heartbeatEvery is how long this side of a session may send nothing.
const heartbeatEvery = 10 * time.Second

// Stdio is what a container's main process reads and writes.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// RunAttached starts a container that was created with an open stdin, from its first byte on attached to its main process,
// and answers the exit code. A reader of stdin that blocks does so beyond the end.
func (c *Client) RunAttached(ctx context.Context, id string, secrets Secrets, stdio Stdio, started func()) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reservation, err := c.Containers.AttachContainer(ctx, connect.NewRequest(&backendv1.AttachContainerRequest{
		Container: id, Access: reach(nil), Stdin: true, Stdout: true, Stderr: true, Stream: true,
	}))
	if err != nil {
		return 0, err
	}
	defer reservation.Close()
	// An accepted reservation is one that the start waits for.
	for reservation.Receive() && reservation.Msg().GetAccepted() == nil {
	}
	if reservation.Msg().GetAccepted() == nil {
		return 0, endOf(reservation.Err())
	}
	failed := make(chan error, 1)
	go func() {
		err := c.StartContainer(ctx, id, secrets)
		if err == nil {
			started()
		} else {
			cancel()
		}
		failed <- err
	}()
	code, err := c.serveAttached(ctx, reservation, stdio)
	if startErr := <-failed; startErr != nil {
		return 0, startErr
	}
	return code, err
}

func (c *Client) serveAttached(ctx context.Context, reservation *connect.ServerStreamForClient[backendv1.AttachContainerResponse], stdio Stdio) (int64, error) {
	for reservation.Receive() && reservation.Msg().GetEndpoint() == nil {
	}
	reserved := reservation.Msg().GetEndpoint()
	if reserved == nil {
		return 0, endOf(reservation.Err())
	}
	agent, done, err := c.agentOf(reserved.Endpoint)
	if err != nil {
		return 0, err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &session{stream: agent.Session(ctx)}
	defer s.stream.CloseResponse()
	err = s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_OpenAttach{OpenAttach: &agentv1.OpenAttach{
		AttachId: reserved.AttachId, Stdin: true, Stdout: true, Stderr: true, Stream: true,
	}}})
	if err != nil {
		return 0, err
	}
	go beat(ctx, s.send, &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	go s.copyStdin(stdio.Stdin)
	return s.receive(stdio)
}

// session is an attachment to a main process.
type session struct {
	stream *connect.BidiStreamForClient[agentv1.SessionRequest, agentv1.SessionResponse]
	mu     sync.Mutex
}

func (s *session) send(message *agentv1.SessionRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(message)
}

// beat sends heartbeats until ctx is done.
func beat[M any](ctx context.Context, send func(*M) error, heartbeat *M) {
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if send(heartbeat) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// copyStdin sends what there is to read. A failure is the session's end, which the receiver sees.
func (s *session) copyStdin(from io.Reader) {
	var offset uint64
	for buffer := make([]byte, 32<<10); ; {
		n, err := from.Read(buffer)
		if n > 0 {
			data := append([]byte(nil), buffer[:n]...)
			if s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Stdin{Stdin: &agentv1.Stdin{Offset: offset, Data: data}}}) != nil {
				return
			}
			offset += uint64(n)
		}
		if err != nil {
			_ = s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_CloseStdin{CloseStdin: &agentv1.CloseStdin{}}})
			return
		}
	}
}

func (s *session) receive(stdio Stdio) (int64, error) {
	for {
		response, err := s.stream.Receive()
		if errors.Is(err, io.EOF) {
			return 0, errCut
		}
		if err != nil {
			return 0, err
		}
		switch message := response.Message.(type) {
		case *agentv1.SessionResponse_Stdout:
			_, err = stdio.Stdout.Write(message.Stdout.Data)
		case *agentv1.SessionResponse_Stderr:
			_, err = stdio.Stderr.Write(message.Stderr.Data)
		case *agentv1.SessionResponse_Exit:
			return int64(message.Exit.Code), nil
		case *agentv1.SessionResponse_Error:
			return 0, errors.New(message.Error.Message)
		case *agentv1.SessionResponse_Detached:
			return 0, errCut
		}
		if err != nil {
			return 0, err
		}
	}
}
