package streams

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
)

const (
	// patience is how long a wait that stands is kept while no backend answers:
	// longer than it takes to start all of sockerless again.
	patience = time.Minute
	// pause is between two attempts to find a backend.
	pause = 100 * time.Millisecond
	// grace is how long a client that sends no more is given to take its answer: it
	// looks the same as one that has closed its end altogether.
	grace = time.Second
	// hangUp is how long a client that was answered may take to close its end.
	hangUp = 10 * time.Second
)

// wait is a client that waits for the end of a container.
type wait struct {
	Backend string            `json:"backend"` // path of its socket
	Request waitRequest       `json:"request"`
	Headers map[string]string `json:"headers"` // of calls to the backend
	Head    string            `json:"head"`    // begins the client's answer, whose body is chunked
}

// waitRequest is a sockerless.backend.v1.WaitContainerRequest in JSON.
type waitRequest struct {
	Container   string `json:"container"`
	Condition   string `json:"condition,omitempty"`
	SinceUnixNs string `json:"since_unix_ns,omitempty"`
}

// waitResponse is a sockerless.backend.v1.WaitContainerResponse in JSON.
type waitResponse struct {
	Accepted *struct {
		ID          string `json:"id"`
		SinceUnixNs string `json:"since_unix_ns"`
	} `json:"accepted"`
	Exited *exited `json:"exited"`
}

type exited struct {
	ExitCode *int64 `json:"exit_code,string"` // said also where it is 0
	Error    string `json:"error"`
}

// hold answers a client once the container's end is known, whatever becomes of
// frontend and backend meanwhile. The frontend is told once the client has the
// answer's header; until then the client is the frontend's.
func (h *helper) hold(fd, id int, w *wait) {
	conn, err := handover.ConnectionOf(fd)
	if err != nil {
		_ = h.tell(answer{ID: id, Error: err.Error()})
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	left := make(chan struct{})
	stands := false
	end, err := h.backend.end(ctx, w, func() {
		if stands {
			return // at another backend
		}
		stands = true
		_, _ = io.WriteString(conn, w.Head)    // a client that is gone is told of by what is read of it
		_ = h.tell(answer{ID: id, Sent: true}) // a frontend that is gone needs no answer
		go func() {
			defer close(left)
			if _, err := io.Copy(io.Discard, conn); err != nil {
				cancel()
			} else {
				time.AfterFunc(grace, cancel)
			}
		}()
	})
	if !stands {
		_ = h.tell(answer{ID: id, Error: err.Error()})
		return
	}
	if err != nil {
		// Nobody takes it for an answer without its last chunk.
		if ctx.Err() == nil {
			slog.Warn("a wait is given up", "container", w.Request.Container, "error", err)
		}
		return
	}
	_, _ = conn.Write(end.body())
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(hangUp))
	<-left
}

// body is the whole body of the answer, as chunks.
func (e *exited) body() []byte {
	type failure struct{ Message string }
	text := new(bytes.Buffer)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	var told struct {
		Error      *failure `json:",omitempty"`
		StatusCode int64
	}
	told.StatusCode = *e.ExitCode
	if e.Error != "" {
		told.Error = &failure{e.Error}
	}
	_ = encoder.Encode(told) // it ends the line
	return fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", text.Len(), text)
}

// backend calls whichever backend there is.
type backend struct {
	client *connect.Client[waitRequest, waitResponse]
}

// socketKey has the path of the backend's socket in the context of a dial.
type socketKey struct{}

func newBackend() *backend {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", ctx.Value(socketKey{}).(string))
		},
	}
	const procedure = "http://backend/sockerless.backend.v1.ContainerService/WaitContainer"
	return &backend{connect.NewClient[waitRequest, waitResponse](&http.Client{Transport: transport}, procedure,
		connect.WithCodec(jsonCodec{}))}
}

// end waits for the end of a container. accepted is called each time that a backend
// has accepted the wait. A first backend that does not is an error; later ones are
// looked for.
func (b *backend) end(ctx context.Context, w *wait, accepted func()) (*exited, error) {
	ctx = context.WithValue(ctx, socketKey{}, w.Backend)
	request, stands := w.Request, false
	for limit := time.Now().Add(patience); ; {
		end, err := b.ask(ctx, w.Headers, request, limit, func(id, since string) {
			stands = true
			request.Container, request.SinceUnixNs = id, since
			limit = time.Time{}
			accepted()
		})
		if err == nil {
			return end, nil
		}
		if limit.IsZero() {
			limit = time.Now().Add(patience)
		}
		if !stands || isRefusal(err) || time.Now().After(limit) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask makes one call. limit is how long its acceptance may take.
func (b *backend) ask(ctx context.Context, headers map[string]string, request waitRequest, limit time.Time, accepted func(id, since string)) (*exited, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(time.Until(limit), cancel)
	defer silence.Stop()
	call := connect.NewRequest(&request)
	for name, value := range headers {
		call.Header().Set(name, value)
	}
	responses, err := b.client.CallServerStream(ctx, call)
	if err != nil {
		return nil, err
	}
	for responses.Receive() {
		switch response := responses.Msg(); {
		case response.Accepted != nil:
			silence.Stop()
			accepted(response.Accepted.ID, response.Accepted.SinceUnixNs)
		case response.Exited != nil && response.Exited.ExitCode != nil:
			return response.Exited, nil
		}
	}
	if err := responses.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

// isRefusal tells a backend's own answer from the lack of one.
func isRefusal(err error) bool {
	if !connect.IsWireError(err) {
		return false
	}
	switch connect.CodeOf(err) {
	case connect.CodeNotFound, connect.CodeInvalidArgument, connect.CodeFailedPrecondition,
		connect.CodePermissionDenied, connect.CodeUnauthenticated, connect.CodeUnimplemented:
		return true
	}
	return false
}

// jsonCodec has Connect's messages as plain structures: the backend's generated
// code would cost every shim its memory.
type jsonCodec struct{}

func (jsonCodec) Name() string                             { return "json" }
func (jsonCodec) Marshal(message any) ([]byte, error)      { return json.Marshal(message) }
func (jsonCodec) Unmarshal(data []byte, message any) error { return json.Unmarshal(data, message) }
