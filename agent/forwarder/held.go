package forwarder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/handover"
)

// window bounds a client's unread bytes in this process.
const window = 64 << 10

// logPlaces is how many clients one that reads a log counts as: it may leave unread
// the window and a chunk besides.
const logPlaces = 4

// held is a request that this process answers, in chunks: one of the calls is
// set.
type held struct {
	Head    string            `json:"head"`    // the beginning of the answer
	Headers map[string]string `json:"headers"` // headers of the call
	Wait    *wait             `json:"wait"`
	Log     *logCall          `json:"log"`
}

// hold answers a client, independently of the frontend. It confirms that once the
// client has the answer's header; until then the frontend has the client.
func (f *forwarder) hold(fd, id int, request *held) {
	process := peerOf(fd)
	conn, err := handover.ConnectionOf(fd)
	if err != nil {
		_ = f.channel.Tell(answer{ID: id, Error: err.Error()})
		return
	}
	defer conn.Close()
	places := int64(1)
	if request.Log != nil {
		places = logPlaces
	}
	defer f.holding.Add(-places)
	if f.holding.Add(places) > f.mostHeld {
		_ = f.channel.Tell(answer{ID: id, Error: "the forwarder holds too many clients"})
		return
	}
	ctx, end := context.WithCancelCause(context.Background())
	cancel := func() { end(nil) }
	defer cancel()
	c := newClient(conn, request.Head, cancel, func() { _ = f.channel.Tell(answer{ID: id, Sent: true}) })
	c.process = process
	err = f.answer(ctx, end, request, c)
	switch {
	case context.Cause(ctx) == errLost:
		c.begin() // an error can only be shown by an answer that is cut off
		slog.Warn("an answer is cut", "error", errLost)
	case !c.begun:
		_ = f.channel.Tell(answer{ID: id, Error: err.Error()})
	case err == nil:
		c.end()
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET): // the client has left
	case ctx.Err() == nil && connect.CodeOf(err) != connect.CodeCanceled:
		// Without the last chunk the answer counts as cut off.
		slog.Warn("an answer is cut", "error", err)
	}
}

// answer makes the call that answers a request.
//
// end cancels the context, with its cause.
func (f *forwarder) answer(ctx context.Context, end context.CancelCauseFunc, request *held, to *client) error {
	if request.Log != nil {
		return f.readLog(ctx, request.Headers, request.Log, to)
	}
	wait := f.guards.hold(to.process, request.Wait.Request.Container, end)
	defer f.guards.release(wait)
	exit, err := f.end(ctx, request.Headers, request.Wait, func(container string) {
		f.guards.accepted(wait, container)
		to.begin()
	})
	if err = cmp.Or(context.Cause(ctx), err); err != nil {
		return err
	}
	if exit.Error == "" {
		f.guards.settled(ctx, wait)
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	_, err = to.Write(exit.text())
	return err
}

// requestOf returns the request of a call that has headers.
func requestOf[T any](message *T, headers map[string]string) *connect.Request[T] {
	request := connect.NewRequest(message)
	for name, value := range headers {
		request.Header().Set(name, value)
	}
	return request
}

// socketKey is the context key of a call's socket path.
type socketKey struct{}

// at returns a context for calls to a unix socket.
func at(ctx context.Context, socket string) context.Context {
	return context.WithValue(ctx, socketKey{}, socket)
}

// Do makes a call over HTTP/2 to the socket in its context (at).
func (f *forwarder) Do(request *http.Request) (*http.Response, error) {
	// Connections are pooled by host, so each socket has its own.
	request.URL.Host = fmt.Sprintf("%x", request.Context().Value(socketKey{}))
	return f.transport.RoundTrip(request)
}

func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:       protocols,
		HTTP2:           &http.HTTP2Config{MaxReceiveBufferPerStream: window},
		IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", ctx.Value(socketKey{}).(string))
		},
	}
}
