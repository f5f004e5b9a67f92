package server

import (
	"context"
	"log/slog"
	"net"
	"regexp"
	"sync"

	"connectrpc.com/connect"
)

// RequestIDKey is the metadata key with the ID of the client's request that a
// call is made for. The logs of all processes carry it.
const RequestIDKey = "sockerless-request-id"

// legalRequestID keeps what a caller says from shaping the log.
var legalRequestID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`) })

type loggerKey struct{}

// withLogger is a server's BaseContext: its calls find the logger there.
func withLogger(logger *slog.Logger) func(net.Listener) context.Context {
	return func(net.Listener) context.Context {
		return context.WithValue(context.Background(), loggerKey{}, logger)
	}
}

// failureLog logs the calls that fail for a reason of the agent's own: what is
// refused, or left by the caller, is no news.
type failureLog struct{}

func (failureLog) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
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
