// Package errortext bounds the text of errors in responses: gRPC sends it in a
// header, and a header that is too long ends the connection, with all calls on it.
package errortext

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
)

// mostBytes of a text are sent: each may be written as three, and HTTP/2 limits a
// header to 64 KiB. Only a text that quotes a client's is longer.
const mostBytes = 16 << 10

// Option bounds the errors of a service.
func Option() connect.HandlerOption { return connect.WithInterceptors(interceptor{}) }

type interceptor struct{}

func (interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		return response, shortened(err)
	}
}

func (interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return shortened(next(ctx, conn))
	}
}

func shortened(err error) error {
	var coded *connect.Error
	if !errors.As(err, &coded) || len(coded.Message()) <= mostBytes {
		return err
	}
	short := connect.NewError(coded.Code(), errors.New(strings.ToValidUTF8(coded.Message()[:mostBytes], "")+" …"))
	for name, values := range coded.Meta() {
		short.Meta()[name] = values
	}
	for _, detail := range coded.Details() {
		short.AddDetail(detail)
	}
	return short
}
