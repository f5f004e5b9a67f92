package streams

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/handover"
)

const (
	// grace is how long a client that sends no more is given to take its answer: it
	// looks the same as one that has closed its end altogether.
	grace = time.Second
	// hangUp is how long a client that was answered may take to close its end.
	hangUp = 10 * time.Second
	// window bounds what one client may leave unread here.
	window = 256 << 10
)

// held is a request that is answered here, in chunks: one of the calls is set.
type held struct {
	Head    string            `json:"head"`    // begins the answer
	Headers map[string]string `json:"headers"` // of the call
	Wait    *wait             `json:"wait"`
	Log     *logCall          `json:"log"`
}

// hold answers a client, whatever becomes of the frontend meanwhile. That is told
// once the client has the answer's header; until then the client is the frontend's.
func (h *helper) hold(fd, id int, request *held) {
	conn, err := handover.ConnectionOf(fd)
	if err != nil {
		_ = h.tell(answer{ID: id, Error: err.Error()})
		return
	}
	defer conn.Close()
	defer h.holding.Add(-1)
	if h.holding.Add(1) > h.mostHeld {
		_ = h.tell(answer{ID: id, Error: "the helper holds too many clients"})
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	endWatch := watch(conn, cancel)
	chunks := handover.Chunks{Conn: conn}
	left := make(chan struct{})
	begun := false
	err = h.answer(ctx, request, chunks, func() {
		if begun {
			return // at another backend
		}
		begun = true
		endWatch()
		_, _ = io.WriteString(conn, request.Head) // a client that is gone is told of by what is read of it
		_ = h.tell(answer{ID: id, Sent: true})    // a frontend that is gone needs no answer
		go func() {
			defer close(left)
			if _, err := io.Copy(io.Discard, conn); err != nil {
				cancel()
			} else {
				time.AfterFunc(grace, cancel)
			}
		}()
	})
	if !begun {
		_ = h.tell(answer{ID: id, Error: err.Error()})
		return
	}
	if err != nil {
		// Nobody takes it for the end of an answer without the last chunk.
		if ctx.Err() == nil {
			slog.Warn("an answer is cut", "error", err)
		}
		return
	}
	_ = chunks.End()
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(hangUp))
	<-left
}

// watch calls gone once a client has closed its end altogether, and reads nothing
// of the connection, which may be the frontend's again. What it answers ends that.
func watch(conn *net.UnixConn, gone func()) (end func()) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return func() {}
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		if raw.Read(isHungUp) == nil { // asks again at each event
			gone()
		}
	}()
	return func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-over
		_ = conn.SetReadDeadline(time.Time{})
	}
}

// isHungUp tells a client that is gone from one that sends no more, and may read.
func isHungUp(fd uintptr) bool {
	polled := []unix.PollFd{{Fd: int32(fd)}}
	_, err := unix.Poll(polled, 0)
	return err == nil && polled[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// answer makes the call that answers a request. begin is called before anything is
// written.
func (h *helper) answer(ctx context.Context, request *held, to io.Writer, begin func()) error {
	if request.Log != nil {
		return h.follow(ctx, request.Headers, request.Log, to, begin)
	}
	end, err := h.end(ctx, request.Headers, request.Wait, begin)
	if err != nil {
		return err
	}
	_, err = to.Write(end.text())
	return err
}

// socketKey has the path of a socket in the context of a call.
type socketKey struct{}

// at is the context of calls to who listens on a unix socket.
func at(ctx context.Context, socket string) context.Context {
	return context.WithValue(ctx, socketKey{}, socket)
}

// Do makes a call over HTTP/2 where its context says (at).
func (h *helper) Do(request *http.Request) (*http.Response, error) {
	// Connections are kept by host: one for each socket.
	request.URL.Host = fmt.Sprintf("%x", request.Context().Value(socketKey{}))
	return h.transport.RoundTrip(request)
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
