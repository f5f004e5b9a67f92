package host

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// wireError gives an error the code that the contract has for it: its own, where
// the package that made it chose one, the caller's context, a full disk.
func wireError(err error) error {
	var coded *connect.Error
	switch {
	case errors.As(err, &coded):
		return connect.NewError(coded.Code(), err)
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return connect.NewError(connect.CodeResourceExhausted, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}
