package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// heartbeatEvery is the longest time without a message from this side of a session.
const heartbeatEvery = 10 * time.Second

// Stdio is the standard streams of a container's main process.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// RunAttached creates a container with an open stdin, starts it attached to its main process from the first byte on, and
// returns the exit code. When the run ends it calls remove with the container's ID, once for each container. If the backend
// goes away meanwhile, another container is created and gets the input from its start, unless the first one's output was
// already passed on: then it is an error, because the dialogue cannot be repeated. A reader of stdin that blocks does so
// beyond the return.
func (c *Client) RunAttached(ctx context.Context, config *backendv1.ContainerConfig, host *backendv1.HostConfig, secrets Secrets, stdio Stdio, started func(), remove func(id string)) (code int64, err error) {
	config.OpenStdin, config.StdinOnce = true, true
	from := readAhead(stdio.Stdin)
	defer close(from.done)
	var once sync.Once
	err = patiently(ctx, func() error {
		run := &attached{Client: c, from: from, secrets: secrets, started: func() { once.Do(started) }, remove: remove}
		run.stdio = Stdio{Stdout: &heard{stdio.Stdout, &run.talk}, Stderr: &heard{stdio.Stderr, &run.talk}}
		code, err = run.run(ctx, config, host)
		if isAway(err) && ctx.Err() == nil && (run.talk.isHeard() || from.isPast) {
			return fmt.Errorf("the backend went away while the container of a frontend ran, which is not repeated: %s", Plain(err))
		}
		return err
	})
	return code, err
}

// attached is one run of an attached container.
type attached struct {
	*Client
	from    *input
	secrets Secrets
	stdio   Stdio
	started func()
	remove  func(id string)
	talk    talk
}

// talk records whether output was passed on (heard) or the attempt given up before.
type talk struct{ state atomic.Int32 }

const (
	silent int32 = iota
	wasHeard
	givenUp
)

func (t *talk) isHeard() bool { return t.state.Load() == wasHeard }

// hear records that the process has written; it returns false if the attempt was given up.
func (t *talk) hear() bool { return t.state.CompareAndSwap(silent, wasHeard) || t.isHeard() }

// giveUp gives the attempt up, unless output was passed on.
func (t *talk) giveUp() bool { return t.state.CompareAndSwap(silent, givenUp) }

func (a *attached) run(ctx context.Context, config *backendv1.ContainerConfig, host *backendv1.HostConfig) (code int64, err error) {
	id, _, err := a.CreateContainer(ctx, config, host)
	if err != nil {
		return 0, err
	}
	defer a.remove(id)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reservation, err := a.Containers.AttachContainer(ctx, connect.NewRequest(&backendv1.AttachContainerRequest{
		Container: id, Access: reach(nil), Stdin: true, Stdout: true, Stderr: true, Stream: true,
	}))
	if err != nil {
		return 0, err
	}
	defer reservation.Close()
	// The start waits for an accepted reservation.
	for reservation.Receive() && reservation.Msg().GetAccepted() == nil {
	}
	if reservation.Msg().GetAccepted() == nil {
		return 0, endOf(reservation.Err())
	}
	starting := make(chan error, 1)
	go func() {
		_, err := a.Containers.StartContainer(ctx, connect.NewRequest(startOf(id, a.secrets)))
		if isAway(err) && !a.talk.giveUp() {
			err = nil
		}
		if err == nil {
			a.started()
		} else {
			cancel()
		}
		starting <- err
	}()
	code, err = a.serve(ctx, reservation)
	if err == nil {
		return code, nil
	}
	// The start waits for the session.
	cancel()
	if failure := <-starting; failure != nil && !Is(failure, connect.CodeCanceled) {
		err = failure
	}
	return 0, err
}

// heard is a writer that records its first write.
type heard struct {
	io.Writer
	talk *talk
}

func (h *heard) Write(data []byte) (int, error) {
	if !h.talk.hear() {
		return 0, errCut
	}
	return h.Writer.Write(data)
}

// maxGivenAgain bounds the input kept for another attempt.
const maxGivenAgain = 1 << 20

// input is read once, and given from its start to each attempt.
type input struct {
	chunks chan inputChunk
	// Stops the reading.
	done chan struct{}
	// Given so far; its size; and whether it was too much to keep.
	given  []inputChunk
	size   int
	isPast bool
}

// inputChunk is the data of one read; `ended` marks the last chunk.
type inputChunk struct {
	data  []byte
	ended bool
}

func readAhead(from io.Reader) *input {
	made := &input{chunks: make(chan inputChunk), done: make(chan struct{})}
	go func() {
		for buffer := make([]byte, 32<<10); ; {
			n, err := from.Read(buffer)
			select {
			case made.chunks <- inputChunk{bytes.Clone(buffer[:n]), err != nil}:
			case <-made.done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return made
}

// giveTo passes the input to an attempt until its end; one attempt at a time.
func (i *input) giveTo(ctx context.Context, talk *talk, give func(inputChunk) error) {
	for _, each := range i.given {
		if give(each) != nil || each.ended {
			return
		}
	}
	for {
		select {
		case each := <-i.chunks:
			if i.size += len(each.data); i.size > maxGivenAgain || talk.isHeard() {
				i.given, i.isPast = nil, true
			} else {
				i.given = append(i.given, each)
			}
			if give(each) != nil || each.ended {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (a *attached) serve(ctx context.Context, reservation *connect.ServerStreamForClient[backendv1.AttachContainerResponse]) (int64, error) {
	for reservation.Receive() && reservation.Msg().GetEndpoint() == nil {
	}
	reserved := reservation.Msg().GetEndpoint()
	if reserved == nil {
		return 0, endOf(reservation.Err())
	}
	agent, done, err := a.agentOf(reserved.Endpoint)
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
	// The receiver gets the stream's error.
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	go beat(ctx, s.send, &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		a.from.giveTo(ctx, &a.talk, s.give())
	}()
	defer func() { cancel(); <-gone }()
	return s.receive(a.stdio)
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

// give returns a function that sends input. A failure is the session's end, which the receiver sees.
func (s *session) give() func(inputChunk) error {
	var offset uint64
	return func(each inputChunk) error {
		if len(each.data) > 0 {
			stdin := &agentv1.SessionRequest_Stdin{Stdin: &agentv1.Stdin{Offset: offset, Data: each.data}}
			if err := s.send(&agentv1.SessionRequest{Message: stdin}); err != nil {
				return err
			}
			offset += uint64(len(each.data))
		}
		if !each.ended {
			return nil
		}
		return s.send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_CloseStdin{CloseStdin: &agentv1.CloseStdin{}}})
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
