package host

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
)

// wireError gives an error the code that the contract has for it: its own, where
// the package that made it chose one, or the caller's context. Others are the
// machine's, a full disk too: RESOURCE_EXHAUSTED is a port or a pool that is taken.
func wireError(err error) error {
	var coded *connect.Error
	switch {
	case errors.As(err, &coded):
		return connect.NewError(coded.Code(), errors.New(withoutCode(err, coded)))
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}

// withoutCode is the error's text for a user: what coded says of itself, with
// what was wrapped around it, but without the name of its code, which connect
// puts before every message and which means nothing to a docker client.
func withoutCode(err error, coded *connect.Error) string {
	return strings.Replace(err.Error(), coded.Error(), coded.Message(), 1)
}
