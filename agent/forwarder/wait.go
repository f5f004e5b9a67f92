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
	// patience limits how long an accepted wait is kept while no backend answers:
	// longer than a restart of all of sockerless takes on a busy machine.
	patience = 3 * time.Minute
	// acceptance limits how long a backend may take to accept a wait.
	acceptance = 10 * time.Second
	// firstPause is the interval of attempts to reach a backend, and pausePerClient what it
	// is longer by for each client: a backend that starts needs the processor, too.
	firstPause     = 100 * time.Millisecond
	pausePerClient = 100 * time.Microsecond
)

// wait is a client that waits for the end of a container.
type wait struct {
	Backend string      `json:"backend"` // path of the backend's socket
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
	ExitCode *int64 `json:"exit_code,string"` // present even if it is 0
	Error    string `json:"error"`
}

// text returns the answer's body.
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
	_ = encoder.Encode(told) // writes the line's end, too
	return text.Bytes()
}

// end waits for the end of a container. accepted is called each time a backend
// has accepted the wait. After the end of a backend the wait continues with the
// next one, which must accept it within acceptance, or within patience if an
// earlier one has.
//
// Once the frontend is gone, the container must be started: its client's request
// for that may have been lost with the frontend, unread.
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
		case <-time.After(f.pause()):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pause is how long a wait leaves a backend alone that was not reached.
func (f *forwarder) pause() time.Duration {
	return firstPause + time.Duration(f.holding.Load())*pausePerClient
}

// withFrontend returns a context that also ends with the frontend; the given one
// if the frontend is already gone.
func (f *forwarder) withFrontend(ctx context.Context) (context.Context, func()) {
	if f.frontend.Err() != nil {
		return ctx, func() {}
	}
	with, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(f.frontend, cancel)
	return with, func() { stop(); cancel() }
}

// ask makes one call. limit bounds the time until it is accepted.
func (f *forwarder) ask(ctx context.Context, headers map[string]string, request waitRequest, limit time.Time, accepted func(id, since string)) (*exited, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(time.Until(limit), cancel)
	defer silence.Stop()
	call := requestOf(&request, headers)
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

// isRefusal distinguishes a backend's own answer from a missing one.
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

// jsonCodec encodes Connect's messages as plain structures: the backend's
// generated code would cost every shim memory.
type jsonCodec struct{}

func (jsonCodec) Name() string                             { return "json" }
func (jsonCodec) Marshal(message any) ([]byte, error)      { return json.Marshal(message) }
func (jsonCodec) Unmarshal(data []byte, message any) error { return json.Unmarshal(data, message) }

// MarshalStable is for calls without side effects, whose request is in their URL.
func (jsonCodec) MarshalStable(message any) ([]byte, error) { return json.Marshal(message) }
func (jsonCodec) IsBinary() bool                            { return false }
