package host

import (
	"context"
	"errors"
	"strings"

	"connectrpc.com/connect"
)

// wireError gives an error the contract's code: the one chosen by the package
// that made it, or that of the caller's context. Others are the machine's
// failures, such as a full disk: RESOURCE_EXHAUSTED is only for a port or an
// address pool in use.
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

// withoutCode returns the error's text for a user, without the name of its code,
// which connect puts before every message and which means nothing to a docker
// client.
func withoutCode(err error, coded *connect.Error) string {
	return strings.Replace(err.Error(), coded.Error(), coded.Message(), 1)
}
