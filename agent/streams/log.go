package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// silence is when an agent that says nothing counts as lost; it says at least a
// heartbeat every few seconds.
const silence = 30 * time.Second

var errMissing = errors.New("bytes of the log are missing")

// logCall is a client that follows a log.
type logCall struct {
	Socket  string `json:"socket"`  // the agent's
	Request []byte `json:"request"` // a LogsRequest, in base64
	Frames  bool   `json:"frames"`  // output has Docker's headers
}

// follow writes a log to its end. begin is called once the log was found.
func (h *helper) follow(ctx context.Context, headers map[string]string, l *logCall, to io.Writer, begin func()) error {
	request := new(agentv1.LogsRequest)
	if err := proto.Unmarshal(l.Request, request); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(at(ctx, l.Socket))
	defer cancel()
	call := connect.NewRequest(request)
	for name, value := range headers {
		call.Header().Set(name, value)
	}
	lost := time.AfterFunc(silence, cancel)
	defer lost.Stop()
	responses, err := agentv1connect.NewAgentServiceClient(h, "http://agent", connect.WithGRPC()).Logs(ctx, call)
	if err != nil {
		return err
	}
	begun, written := false, uint64(0)
	for responses.Receive() {
		lost.Stop() // the client takes its time
		if !begun {
			begun = true
			begin()
		}
		switch message := responses.Msg().Message.(type) {
		case *agentv1.LogsResponse_Chunk:
			if message.Chunk.Offset != written {
				return errMissing
			}
			written += uint64(len(message.Chunk.Data))
			if err := l.write(to, byte(message.Chunk.Stream), message.Chunk.Data); err != nil {
				return err
			}
		case *agentv1.LogsResponse_End:
			if message.End.TotalBytes != written {
				return errMissing
			}
			return nil
		}
		lost.Reset(silence)
	}
	err = responses.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if begun {
		reason := err.Error()
		if told := new(connect.Error); errors.As(err, &told) {
			reason = told.Message()
		}
		text := fmt.Appendf(nil, "Error grabbing logs: %s\n", reason)
		if l.Frames {
			text = framed(systemError, text)
		}
		_, _ = to.Write(text)
	}
	return err
}

// systemError is the stream of Docker's frames that has what went wrong.
const systemError byte = 3

// write writes a chunk; the streams of an agent of this version come as frames.
func (l *logCall) write(to io.Writer, stream byte, data []byte) error {
	if l.Frames && stream != byte(agentv1.Stream_STREAM_FRAMES) {
		data = framed(stream, data)
	}
	_, err := to.Write(data)
	memory.Moved(len(data))
	return err
}

func framed(stream byte, data []byte) []byte {
	header := handover.FrameHeader(stream, len(data))
	return append(header[:], data...)
}
