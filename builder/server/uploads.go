package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sockerless/sockerless/builder/worker"
)

// uploadRequest is the remote of a build whose context comes in another request, and the prefix of that request's build
// ID: clients with their own BuildKit, before buildx, send their standard input's archive this way.
const uploadRequest = "upload-request"

// untilTaken bounds how long an upload waits for its build, which its client requests at the same time: until the body
// is read, the server does not notice that the client has left.
const untilTaken = time.Minute

// uploads pairs the two requests by the build's ID, in either order: they meet at a channel.
type uploads struct {
	waiting worker.RefCounted[chan upload]
}

// upload is a context, valid while its request waits for done.
type upload struct {
	content io.Reader
	done    func()
}

// give waits until a context has been taken and read.
func (u *uploads) give(ctx context.Context, id string, content io.Reader) error {
	read, done := context.WithCancel(ctx)
	defer done()
	if err := u.handOver(ctx, id, upload{content, done}); err != nil {
		return err
	}
	<-read.Done()
	return ctx.Err()
}

func (u *uploads) handOver(ctx context.Context, id string, given upload) error {
	at, leave := u.waiting.Acquire(id, make(chan upload))
	defer leave()
	select {
	case at <- given:
		return nil
	case <-time.After(untilTaken):
		return &refused{http.StatusNotFound, fmt.Sprintf("no build with the ID %q takes the context", id)}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take waits for a context.
func (u *uploads) take(ctx context.Context, id string) (upload, error) {
	at, leave := u.waiting.Acquire(id, make(chan upload))
	defer leave()
	select {
	case given := <-at:
		return given, nil
	case <-ctx.Done():
		return upload{}, ctx.Err()
	}
}
