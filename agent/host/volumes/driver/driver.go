// Package driver is the contract of volume drivers. A driver is a package beside
// this one, and an entry in the host process's list; the store does what all of
// them share (directories, holders, removal, recovery after a crash).
package driver

import (
	"context"
	"fmt"
	"path/filepath"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Volume is one volume as its driver knows it.
type Volume struct {
	Name    string
	Options map[string]string // as they were given
	Dir     string            // of its own, where no container writes
}

// Data is the directory that containers see, plain or as a mount point.
func (v Volume) Data() string { return filepath.Join(v.Dir, "_data") }

// Made describes a volume for users.
type Made struct {
	Mountpoint string
	Status     map[string]string
}

// Driver makes volumes of one kind. The store serialises its calls for each
// volume, and repeats a call that a crash has interrupted. Errors without a
// connect code are failures of the machine.
type Driver interface {
	// Traits returns its name and rules.
	Traits() *hostv1.VolumeDriver
	// Check refuses invalid options before anything exists. INVALID_ARGUMENT.
	Check(options map[string]string) error
	// Make creates the volume's content in v.Dir, which exists; existing content
	// is kept. ALREADY_EXISTS: it does not match the options.
	Make(ctx context.Context, v Volume) (Made, error)
	// Mount mounts the volume at v.Data(), where nothing is mounted; drivers
	// without mounts do nothing.
	Mount(ctx context.Context, v Volume) error
	// Measure returns the volume's size on the machine in bytes.
	Measure(ctx context.Context, v Volume) (uint64, error)
}

// Growing is a Driver whose volumes take disk space as they are written.
type Growing interface {
	// Growth returns how many more bytes the volume may take; os.ErrNotExist: it
	// is gone.
	Growth(v Volume) (uint64, error)
}

// Invalid is an INVALID_ARGUMENT.
func Invalid(format string, values ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, values...))
}
