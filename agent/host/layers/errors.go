package layers

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"connectrpc.com/connect"
)

// entryError names the entry that failed to unpack.
func entryError(name string, err error) error {
	return fmt.Errorf("entry %q: %w", name, err)
}

// classify separates failures of the machine (a full disk, a cancelled call) from
// a bad blob: errors of decompression, the tar format and the tar's content.
func classify(err error) error {
	var coded *connect.Error
	if errors.As(err, &coded) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var number syscall.Errno
	if errors.As(err, &number) && !causedByContent(number) {
		return err
	}
	return connect.NewError(connect.CodeInvalidArgument, err)
}

// causedByContent lists errors that a hostile or broken tar can provoke in the
// kernel.
func causedByContent(number syscall.Errno) bool {
	switch number {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL,
		syscall.EEXIST, syscall.EXDEV, syscall.EMLINK, syscall.ERANGE, syscall.E2BIG, syscall.EPERM, syscall.ENOTEMPTY:
		return true
	}
	return false
}
