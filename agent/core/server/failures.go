package server

import (
	"context"
	"log/slog"
	"net"
	"regexp"
	"sync"

	"connectrpc.com/connect"
)

// RequestIDKey is the metadata key with the ID of the client request behind a
// call. All processes log it.
const RequestIDKey = "sockerless-request-id"

// legalRequestID keeps callers from injecting text into the log.
var legalRequestID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`) })

type loggerKey struct{}

// withLogger is a server's BaseContext, through which calls find the logger.
func withLogger(logger *slog.Logger) func(net.Listener) context.Context {
	return func(net.Listener) context.Context {
		return context.WithValue(context.Background(), loggerKey{}, logger)
	}
}

// failureLog logs calls that fail through the agent's own fault, not those that
// were refused or abandoned by the caller. It has others give way to calls without room.
type failureLog struct{}

func (failureLog) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		giveWay(ctx, err)
		logFailure(ctx, request.Spec().Procedure, request.Header().Get(RequestIDKey), err)
		return response, err
	}
}

func (failureLog) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (failureLog) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		err := next(ctx, conn)
		giveWay(ctx, err)
		logFailure(ctx, conn.Spec().Procedure, conn.RequestHeader().Get(RequestIDKey), err)
		return err
	}
}

func logFailure(ctx context.Context, procedure, requestID string, err error) {
	logger, _ := ctx.Value(loggerKey{}).(*slog.Logger)
	if err == nil || logger == nil || ctx.Err() != nil {
		return
	}
	switch connect.CodeOf(err) {
	case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
	default:
		return
	}
	values := []any{"method", procedure, "error", err}
	if legalRequestID().MatchString(requestID) {
		values = append(values, "request", requestID)
	}
	logger.Warn("a call failed", values...)
}
