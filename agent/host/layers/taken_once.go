package layers

import (
	"context"
	"errors"
	"sync"

	"connectrpc.com/connect"
)

// byID has values that are available under an ID. Its zero value is ready.
type byID[T any] struct {
	mu  sync.Mutex
	all map[string]*T
}

// add makes a value available until forget is called.
func (b *byID[T]) add(id string, value *T) (forget func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all[id] != nil {
		return nil, connect.NewError(connect.CodeAlreadyExists, errors.New("this ID is in use"))
	}
	if b.all == nil {
		b.all = map[string]*T{}
	}
	b.all[id] = value
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.all, id)
	}, nil
}

// find returns an available value, or nil.
func (b *byID[T]) find(id string) *T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all[id]
}

// takenOnce is the state of an upload.
type takenOnce struct {
	begin sync.Once
	// abandoned is closed once the upload is no longer wanted.
	abandoned chan struct{}
	// done is closed once all work on it has ended.
	done chan struct{}
	// ended is called before done is closed.
	ended func()
	err   error
}

func newTakenOnce(ended func()) takenOnce {
	return takenOnce{abandoned: make(chan struct{}), done: make(chan struct{}), ended: ended}
}

func (t *takenOnce) end() {
	t.ended()
	close(t.done)
}

// run takes the upload, unless that has begun before or it was abandoned.
func (t *takenOnce) run(ctx context.Context, take func(context.Context) error) error {
	isFirst := false
	t.begin.Do(func() { isFirst = true })
	if !isFirst {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the upload is taken already, or not wanted any more"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	// In its own goroutine: a reader waiting for a silent peer fails only when
	// this call ends.
	go func() {
		defer cancel(nil)
		defer t.end()
		t.err = take(ctx)
	}()
	select {
	case <-t.done:
		return t.err
	case <-t.abandoned:
		err := connect.NewError(connect.CodeCanceled, errors.New("the upload is not wanted any more"))
		cancel(err)
		return err
	}
}

// abandon waits until what is under way has ended; nothing is taken any more. It
// is called once.
func (t *takenOnce) abandon() {
	close(t.abandoned)
	t.begin.Do(t.end)
	<-t.done
}
