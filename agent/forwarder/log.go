package forwarder

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/memory"
	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// silence is the time after which a silent agent counts as lost; it sends
// heartbeats every few seconds.
const silence = 30 * time.Second

var (
	errMissing   = errors.New("bytes of the log are missing")
	errElsewhere = errors.New("the log's agent is not on this machine")
)

// logCall is a client that reads a log.
type logCall struct {
	Backend string          `json:"backend"` // path of the backend's socket
	Open    json.RawMessage `json:"open"`    // a sockerless.backend.v1.OpenLogsRequest
	Request []byte          `json:"request"` // a LogsRequest, in base64
	Details bool            `json:"details"` // lines begin with the log driver's attributes
	// TTYHead is the beginning of the answer if the container has a terminal.
	TTYHead string `json:"tty_head"`
}

// openedLog is a sockerless.backend.v1.OpenLogsResponse in JSON.
type openedLog struct {
	Endpoint struct {
		UnixPath    string `json:"unix_path"`
		ContainerID string `json:"container_id"`
	} `json:"endpoint"`
	TTY     bool              `json:"tty"`
	Details map[string]string `json:"details"`
}

// readLog reads a log to its end, or passes the client to the log's agent if that
// makes an offer.
func (f *forwarder) readLog(ctx context.Context, headers map[string]string, l *logCall, to *client) error {
	log, err := f.openLog(ctx, headers, l)
	if err != nil {
		return err
	}
	if log.Endpoint.UnixPath == "" {
		return errElsewhere
	}
	request := new(agentv1.LogsRequest)
	if err := proto.Unmarshal(l.Request, request); err != nil {
		return err
	}
	request.Form = agentv1.LogForm_LOG_FORM_FRAMES
	if log.TTY {
		request.Form = agentv1.LogForm_LOG_FORM_LINES
		to.head = l.TTYHead
	}
	if l.Details {
		request.LinePrefix = detailsPrefix(log.Details)
	}
	err = f.callLogs(ctx, headers, log, request, to)
	if errors.Is(err, errNotPassed) {
		slog.Warn("a log was not handed on", "error", err)
		request.HandOver = false
		err = f.callLogs(ctx, headers, log, request, to)
	}
	if err != nil && to.begun && !to.passed.Load() {
		_, _ = to.Write(handover.LogFailure(err, !log.TTY))
	}
	return err
}

// openLog asks the backend for the agent that serves a log.
func (f *forwarder) openLog(ctx context.Context, headers map[string]string, l *logCall) (*openedLog, error) {
	call := requestOf(&l.Open, headers)
	const procedure = "http://backend/sockerless.backend.v1.ContainerService/OpenLogs"
	client := connect.NewClient[json.RawMessage, openedLog](f, procedure,
		connect.WithCodec(jsonCodec{}), connect.WithIdempotency(connect.IdempotencyNoSideEffects), connect.WithHTTPGet())
	answer, err := client.CallUnary(at(ctx, l.Backend), call)
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

// detailsPrefix returns the prefix of each line: sorted `key=value` pairs and a
// space.
func detailsPrefix(details map[string]string) string {
	pairs := make([]string, 0, len(details))
	for _, key := range slices.Sorted(maps.Keys(details)) {
		pairs = append(pairs, url.QueryEscape(key)+"="+url.QueryEscape(details[key]))
	}
	return strings.Join(pairs, ",") + " "
}

func (f *forwarder) callLogs(ctx context.Context, headers map[string]string, log *openedLog, request *agentv1.LogsRequest, to *client) error {
	ctx, cancel := context.WithCancel(at(ctx, log.Endpoint.UnixPath))
	defer cancel()
	call := requestOf(request, headers)
	call.Header().Set(server.ContainerIDKey, log.Endpoint.ContainerID)
	lost := time.AfterFunc(silence, cancel)
	defer lost.Stop()
	const procedure = "http://agent" + agentv1connect.AgentServiceLogsProcedure
	// The service's generated client would prepare every other call too.
	client := connect.NewClient[agentv1.LogsRequest, agentv1.LogsResponse](f, procedure, connect.WithGRPC())
	responses, err := client.CallServerStream(ctx, call)
	if err != nil {
		return err
	}
	written := uint64(0)
	for responses.Receive() {
		lost.Stop() // the client may be slow
		to.begin()
		switch message := responses.Msg().Message.(type) {
		case *agentv1.LogsResponse_Offer:
			if err := to.pass(message.Offer); err != nil {
				return err
			}
		case *agentv1.LogsResponse_Chunk:
			if message.Chunk.Offset != written {
				return errMissing
			}
			written += uint64(len(message.Chunk.Data))
			if err := writeChunk(to, byte(message.Chunk.Stream), message.Chunk.Data, request.Form); err != nil {
				return err
			}
		case *agentv1.LogsResponse_End:
			if message.End.TotalBytes != written && !to.passed.Load() {
				return errMissing
			}
			return nil
		}
		lost.Reset(silence)
	}
	if err := responses.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// writeChunk writes a chunk; agents of this version send frames.
func writeChunk(to io.Writer, stream byte, data []byte, form agentv1.LogForm) error {
	if form == agentv1.LogForm_LOG_FORM_FRAMES && stream != byte(agentv1.Stream_STREAM_FRAMES) {
		data = handover.Framed(stream, data)
	}
	_, err := to.Write(data)
	memory.Moved(len(data))
	return err
}
