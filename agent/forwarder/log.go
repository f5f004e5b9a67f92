package forwarder

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// silence is the time after which a silent agent counts as lost; it sends
// heartbeats every few seconds.
const silence = 30 * time.Second

var errMissing = errors.New("bytes of the log are missing")

// logCall is a client that reads a log.
type logCall struct {
	Socket  string `json:"socket"`  // of the agent
	Request []byte `json:"request"` // a LogsRequest, in base64
	Frames  bool   `json:"frames"`  // output has Docker's headers
}

// readLog reads a log to its end, or passes the client to the log's agent if that
// makes an offer.
func (f *forwarder) readLog(ctx context.Context, headers map[string]string, l *logCall, to *client) error {
	request := new(agentv1.LogsRequest)
	if err := proto.Unmarshal(l.Request, request); err != nil {
		return err
	}
	err := f.callLogs(ctx, headers, l, request, to)
	if errors.Is(err, errNotPassed) {
		slog.Warn("a log was not handed on", "error", err)
		request.HandOver = false
		err = f.callLogs(ctx, headers, l, request, to)
	}
	if err != nil && to.begun && !to.passed.Load() {
		_, _ = to.Write(handover.LogFailure(err, l.Frames))
	}
	return err
}

func (f *forwarder) callLogs(ctx context.Context, headers map[string]string, l *logCall, request *agentv1.LogsRequest, to *client) error {
	ctx, cancel := context.WithCancel(at(ctx, l.Socket))
	defer cancel()
	call := connect.NewRequest(request)
	for name, value := range headers {
		call.Header().Set(name, value)
	}
	lost := time.AfterFunc(silence, cancel)
	defer lost.Stop()
	const url = "http://agent" + agentv1connect.AgentServiceLogsProcedure
	// The service's generated client would prepare every other call too.
	client := connect.NewClient[agentv1.LogsRequest, agentv1.LogsResponse](f, url, connect.WithGRPC())
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
			if err := l.write(to, byte(message.Chunk.Stream), message.Chunk.Data); err != nil {
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

// write writes a chunk; agents of this version send frames.
func (l *logCall) write(to io.Writer, stream byte, data []byte) error {
	if l.Frames && stream != byte(agentv1.Stream_STREAM_FRAMES) {
		data = handover.Framed(stream, data)
	}
	_, err := to.Write(data)
	memory.Moved(len(data))
	return err
}
