package forwarder

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"connectrpc.com/connect"
)

const (
	// patience is how long a wait that stands is kept while no backend answers:
	// longer than it takes to start all of sockerless again on a busy machine.
	patience = 3 * time.Minute
	// acceptance is how long a backend may take that is to accept a wait.
	acceptance = 10 * time.Second
	// pause is between two attempts to find a backend.
	pause = 100 * time.Millisecond
)

// wait is a client that waits for the end of a container.
type wait struct {
	Backend string      `json:"backend"` // path of its socket
	Request waitRequest `json:"request"`
}

// waitRequest is a sockerless.backend.v1.WaitContainerRequest in JSON.
type waitRequest struct {
	Container   string `json:"container"`
	Condition   string `json:"condition,omitempty"`
	SinceUnixNs string `json:"since_unix_ns,omitempty"`
	NeedsStart  bool   `json:"needs_start,omitempty"`
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

// text is the answer's body.
func (e *exited) text() []byte {
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
	return text.Bytes()
}

// end waits for the end of a container. accepted is called each time that a backend
// has accepted the wait. A backend that ends is followed by the next one, which has
// acceptance to accept the wait, or patience where one before it has.
//
// Once the frontend is gone, the container has to be started: the request of its client
// for that may have gone with it, unread.
func (f *forwarder) end(ctx context.Context, headers map[string]string, w *wait, accepted func(container string)) (*exited, error) {
	ctx = at(ctx, w.Backend)
	request := w.Request
	for limit := time.Now().Add(acceptance); ; {
		asking, release := f.withFrontend(ctx)
		request.NeedsStart = asking == ctx
		end, err := f.ask(asking, headers, request, limit, func(id, since string) {
			request.Container, request.SinceUnixNs = id, since
			limit = time.Time{}
			accepted(id)
		})
		release()
		if err == nil {
			return end, nil
		}
		if f.frontend.Err() != nil && !request.NeedsStart {
			continue
		}
		if limit.IsZero() {
			limit = time.Now().Add(patience)
		}
		if isRefusal(err) || time.Now().After(limit) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// withFrontend is a context that ends with the frontend as well: the same one if that
// is gone already.
func (f *forwarder) withFrontend(ctx context.Context) (context.Context, func()) {
	if f.frontend.Err() != nil {
		return ctx, func() {}
	}
	with, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(f.frontend, cancel)
	return with, func() { stop(); cancel() }
}

// ask makes one call. limit is how long its acceptance may take.
func (f *forwarder) ask(ctx context.Context, headers map[string]string, request waitRequest, limit time.Time, accepted func(id, since string)) (*exited, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(time.Until(limit), cancel)
	defer silence.Stop()
	call := connect.NewRequest(&request)
	for name, value := range headers {
		call.Header().Set(name, value)
	}
	const procedure = "http://backend/sockerless.backend.v1.ContainerService/WaitContainer"
	client := connect.NewClient[waitRequest, waitResponse](f, procedure, connect.WithCodec(jsonCodec{}))
	responses, err := client.CallServerStream(ctx, call)
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
	case connect.CodeNotFound, connect.CodeInvalidArgument, connect.CodeAlreadyExists,
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
