package server

import (
	"context"
	"io"
	"sync"
)

// uploadRequest is the remote of a build whose context another request brings, and the beginning of that one's build ID:
// clients with a BuildKit of their own, before buildx, send an archive of their standard input so.
const uploadRequest = "upload-request"

// uploads lets the two requests find each other by the build's ID, in either order.
type uploads struct {
	waiting sync.Map
}

// upload is a context, for as long as its request waits for done.
type upload struct {
	content io.Reader
	done    func()
}

func (u *uploads) of(id string) chan upload {
	meeting, _ := u.waiting.LoadOrStore(id, make(chan upload))
	return meeting.(chan upload)
}

// give waits until a context was taken and read.
func (u *uploads) give(ctx context.Context, id string, content io.Reader) error {
	defer u.waiting.Delete(id)
	read, done := context.WithCancel(ctx)
	defer done()
	select {
	case u.of(id) <- upload{content, done}:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-read.Done()
	return ctx.Err()
}

// take waits for a context.
func (u *uploads) take(ctx context.Context, id string) (upload, error) {
	defer u.waiting.Delete(id)
	select {
	case given := <-u.of(id):
		return given, nil
	case <-ctx.Done():
		return upload{}, ctx.Err()
	}
}
