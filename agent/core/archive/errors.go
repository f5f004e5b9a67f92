package archive

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Kinds of failure, distinguished by errors.Is. Any other error is the system's
// (an I/O error, a path through a file that is not a directory).
var (
	ErrNotFound    = errors.New("not found")
	ErrInvalid     = errors.New("invalid")           // the request or the tar stream is at fault
	ErrReadOnly    = errors.New("read-only")         // the file system refuses writes
	ErrPermission  = errors.New("permission denied") // the agent itself may not do this
	ErrUnsupported = errors.New("not supported by this kernel")

	// ErrStream is an ErrInvalid caused by the tar stream: it is broken, or an
	// entry leads out of its directory. Docker reports these as its own failure
	// (500), the rest of ErrInvalid as the request's (400).
	ErrStream = fmt.Errorf("tar stream: %w", ErrInvalid)
)

// failure pairs a kind with a message that users see unchanged.
type failure struct {
	kind    error
	message string
	cause   error
}

func (f *failure) Error() string { return f.message }

func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}

func invalid(format string, args ...any) error {
	return &failure{kind: ErrInvalid, message: fmt.Sprintf(format, args...)}
}

func badStream(format string, args ...any) error {
	return &failure{kind: ErrStream, message: fmt.Sprintf(format, args...)}
}

// pathError describes the failure of an operation on a path of the container.
func pathError(op, path string, err error) error {
	message := fmt.Sprintf("%s %s: %v", op, path, err)
	var kind error
	switch {
	case errors.Is(err, unix.ENOENT):
		kind = ErrNotFound
	case errors.Is(err, unix.EROFS):
		kind = ErrReadOnly
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		kind = ErrPermission
	default:
		return fmt.Errorf("%s %s: %w", op, path, err)
	}
	return &failure{kind, message, err}
}
