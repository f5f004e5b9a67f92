// Package driver is the contract of the drivers of volumes. A driver is a package
// beside this one, and an entry in the host process's list; what all of them have
// in common (directories, holders, removal, remains of a crash) is the store's.
package driver

import (
	"context"
	"path/filepath"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Volume is one volume as its driver knows it.
type Volume struct {
	Name    string
	Options map[string]string // as they were given
	Dir     string            // of its own, where no container writes
}

// Data is the directory that containers see: what is in it, or mounted on it.
func (v Volume) Data() string { return filepath.Join(v.Dir, "_data") }

// Made is what users are told of a volume.
type Made struct {
	Mountpoint string
	Status     map[string]string
}

// Driver makes volumes of one kind. The store calls it for one volume at a time,
// and repeats what a crash has cut off. Errors without a code of connect's are
// the machine's.
type Driver interface {
	// Traits are its name and rules.
	Traits() *hostv1.VolumeDriver
	// Check refuses options before anything exists. INVALID_ARGUMENT.
	Check(options map[string]string) error
	// Make makes in v.Dir, which is there, what the volume needs; what is there is
	// left as it is. ALREADY_EXISTS: it is other than the options ask.
	Make(ctx context.Context, v Volume) (Made, error)
	// Mount mounts the volume at v.Data(), where nothing is mounted; a kind that
	// needs no mount does nothing.
	Mount(ctx context.Context, v Volume) error
	// Measure answers the bytes that the volume takes of the machine.
	Measure(ctx context.Context, v Volume) (uint64, error)
}

// Growing is what a driver is, too, whose volumes take room of the disk that they
// lie on as they are written to.
type Growing interface {
	// Growth answers the bytes that the volume may yet take; os.ErrNotExist: it is gone.
	Growth(v Volume) (uint64, error)
}
