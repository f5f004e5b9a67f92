// Package tmpfs is the driver of volumes in memory: running containers share one,
// and it disappears with the last of them.
package tmpfs

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/disk"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Driver implements driver.Driver.
type Driver struct{}

// Traits returns the driver's name and rules.
func (Driver) Traits() *hostv1.VolumeDriver {
	return &hostv1.VolumeDriver{
		Name: "tmpfs", Sharing: hostv1.VolumeSharing_VOLUME_SHARING_SHARED,
		Content: hostv1.VolumeContent_VOLUME_CONTENT_HERE,
	}
}

// known are options of the kernel's tmpfs.
var known = []string{"size", "nr_inodes", "mode", "uid", "gid"}

// Check lets the kernel validate the values.
func (Driver) Check(options map[string]string) error {
	for option := range options {
		if !slices.Contains(known, option) {
			return driver.Invalid("invalid option: %q (tmpfs volumes have: size, nr_inodes, mode, uid, gid)", option)
		}
	}
	root, err := fileSystem(options).Open()
	if err != nil {
		return driver.Invalid("%v", err)
	}
	return unix.Close(root)
}

func fileSystem(options map[string]string) mounts.FileSystem {
	m := mounts.FileSystem{Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}}
	for option, value := range options {
		m.Options = append(m.Options, option+"="+value)
	}
	return m
}

// Make does nothing: the memory is mounted with the first container.
func (Driver) Make(_ context.Context, v driver.Volume) (driver.Made, error) {
	status := map[string]string{"format": "tmpfs", "lifetime": "until no running container has it"}
	return driver.Made{Mountpoint: v.Data(), Status: status}, nil
}

// Mount mounts an empty tmpfs.
func (Driver) Mount(_ context.Context, v driver.Volume) error {
	return fileSystem(v.Options).Mount(v.Data())
}

// Measure returns the bytes of the volume's files.
func (Driver) Measure(ctx context.Context, v driver.Volume) (uint64, error) {
	return disk.Measure(ctx, v.Data())
}
