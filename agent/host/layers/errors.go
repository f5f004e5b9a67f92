package layers

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"connectrpc.com/connect"
)

// entryError names the entry that could not be unpacked.
func entryError(name string, err error) error {
	return fmt.Errorf("entry %q: %w", name, err)
}

// classify tells the machine's failures (a full disk, a cancelled call) from a
// blob that is at fault: everything that decompression, the tar format and the
// content of the tar can complain about.
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

// causedByContent: what a hostile or broken tar makes the kernel say.
func causedByContent(number syscall.Errno) bool {
	switch number {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL,
		syscall.EEXIST, syscall.EXDEV, syscall.EMLINK, syscall.ERANGE, syscall.E2BIG, syscall.EPERM, syscall.ENOTEMPTY:
		return true
	}
	return false
}
