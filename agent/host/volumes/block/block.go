// Package block is the driver of volumes with their own file system: an EXT4
// image, mounted through a loop device for one container at a time.
package block

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"connectrpc.com/connect"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Driver implements driver.Driver.
type Driver struct {
	DefaultSize int64 // bytes of a volume whose options name none
}

const (
	// blockSize is EXT4's block size: sizes are rounded up to it.
	blockSize = 4096
	// minSize is enough for the file system's own structures.
	minSize = 16 << 20
	// maxSize is EXT4's limit for a file.
	maxSize = 16 << 40
)

// Traits returns the driver's name and rules.
func (Driver) Traits() *hostv1.VolumeDriver {
	return &hostv1.VolumeDriver{
		Name: "block", Sharing: hostv1.VolumeSharing_VOLUME_SHARING_EXCLUSIVE,
		Content: hostv1.VolumeContent_VOLUME_CONTENT_HERE,
	}
}

// settings are the parsed options.
type settings struct {
	size      int64
	sizeAsked bool
	allocate  bool // all of it at once, so that a full disk is met at the creation
	write     bool // what is allocated, too, so that nothing is left to note at its first use
}

func (d Driver) settings(options map[string]string) (settings, error) {
	asked := settings{size: d.DefaultSize}
	for option, value := range options {
		var err error
		switch option {
		case "size":
			asked.sizeAsked = true
			if asked.size, err = units.RAMInBytes(value); err != nil {
				return asked, driver.Invalid("%v: it is a number of bytes, such as 512M or 10G", err)
			}
		case "fallocate":
			asked.write = value == "full"
			if asked.allocate, err = strconv.ParseBool(value); err != nil && !asked.write {
				return asked, driver.Invalid("fallocate=%s: it is true, false or full", value)
			}
			asked.allocate = asked.allocate || asked.write
		default:
			return asked, driver.Invalid("invalid option: %q (block volumes have: size, fallocate)", option)
		}
	}
	if asked.size < minSize || asked.size > maxSize {
		return asked, driver.Invalid("a size of %s is out of bounds: it is at least %s and at most %s",
			units.BytesSize(float64(asked.size)), units.BytesSize(minSize), units.BytesSize(maxSize))
	}
	asked.size = (asked.size + blockSize - 1) / blockSize * blockSize
	return asked, nil
}

// Check refuses unknown options and sizes out of bounds.
func (d Driver) Check(options map[string]string) error {
	_, err := d.settings(options)
	return err
}

func imageOf(v driver.Volume) string { return filepath.Join(v.Dir, "volume.img") }

// Make creates the image, which gets its name once it is complete.
func (d Driver) Make(ctx context.Context, v driver.Volume) (made driver.Made, err error) {
	asked, err := d.settings(v.Options)
	if err != nil {
		return made, err
	}
	image := imageOf(v)
	info, err := os.Lstat(image)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = makeImage(ctx, v.Name, image, asked)
	case err == nil && asked.sizeAsked && info.Size() != asked.size:
		return made, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf(
			"the volume exists with %s: remove it first, or choose another name", units.BytesSize(float64(info.Size()))))
	case err == nil:
		asked.size = info.Size()
	}
	status := map[string]string{"format": "ext4", "size": strconv.FormatInt(asked.size, 10)}
	return driver.Made{Mountpoint: image, Status: status}, err
}

func makeImage(ctx context.Context, name, image string, asked settings) (err error) {
	unfinished := image + ".new"
	if err := removeUnfinished(ctx, name, unfinished); err != nil {
		return err
	}
	file, err := os.OpenFile(unfinished, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lock, err := lockImage(ctx, name, file)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := file.Truncate(asked.size); err != nil {
		return err
	}
	if asked.allocate {
		if err := allocate(file, asked.size); err != nil {
			return fmt.Errorf("allocate %s: %w", units.BytesSize(float64(asked.size)), err)
		}
	}
	if err := makeFileSystem(ctx, unfinished, asked, lock); err != nil {
		return err
	}
	if asked.write {
		if err := fillHoles(ctx, file, asked.size); err != nil {
			return fmt.Errorf("write %s: %w", units.BytesSize(float64(asked.size)), err)
		}
	}
	faultpoint.Reached("host.volume.formatted")
	if err := emptyFileSystem(file, mountOptions(asked)); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(unfinished, image); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(image))
}

// removeUnfinished removes the image of a process that died, after that process's
// mkfs.ext4, which opens the file by name, has ended.
func removeUnfinished(ctx context.Context, name, unfinished string) error {
	left, err := os.Open(unfinished)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer left.Close()
	lock, err := lockImage(ctx, name, left)
	if err != nil {
		return err
	}
	defer lock.Close()
	return os.Remove(unfinished)
}

// allocate checks the free space first, because a failing allocation fills the
// disk for everybody until it fails.
func allocate(file *os.File, size int64) error {
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &disk); err != nil {
		return err
	}
	if room := int64(disk.Bavail) * disk.Bsize; size > room {
		return fmt.Errorf("%w: there is room for %s", unix.ENOSPC, units.BytesSize(float64(room)))
	}
	return unix.Fallocate(int(file.Fd()), 0, 0, size)
}

// fillHoles writes zeros to the holes of the file.
func fillHoles(ctx context.Context, file *os.File, size int64) error {
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		begin, err := file.Seek(at, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end, err := file.Seek(begin, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no more data
			end, err = size, nil
		}
		if err != nil {
			return err
		}
		for at = begin; at < end; at += int64(len(zeros)) {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if _, err := file.WriteAt(zeros[:min(int64(len(zeros)), end-at)], at); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

// emptyFileSystem removes lost+found: databases want an empty directory. e2fsck
// recreates it when needed.
func emptyFileSystem(image *os.File, options []string) error {
	root, err := openFileSystem(image, options)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	return unix.Unlinkat(root, "lost+found", unix.AT_REMOVEDIR)
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// mountOptions return deleted blocks to the machine, unless the image was
// allocated in advance.
func mountOptions(asked settings) []string {
	if asked.allocate {
		return nil
	}
	return []string{"discard"}
}

// Mount mounts the image, after a check if the kernel has recorded errors in it.
// If it was not unmounted, the kernel replays its journal.
func (d Driver) Mount(ctx context.Context, v driver.Volume) error {
	asked, err := d.settings(v.Options)
	if err != nil {
		return err
	}
	image, err := os.OpenFile(imageOf(v), os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount volume %s: %w", v.Name, err)
	}
	defer image.Close()
	lock, err := lockImage(ctx, v.Name, image)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := checkAfterErrors(ctx, v.Name, image, lock); err != nil {
		return err
	}
	root, err := openFileSystem(image, mountOptions(asked))
	if err != nil {
		return fmt.Errorf("volume %s cannot be mounted: %w (it is not repaired unasked: `e2fsck -f %s`, or bring back a copy)", v.Name, err, image.Name())
	}
	defer unix.Close(root)
	return mounts.Attach(root, v.Data())
}

// openFileSystem mounts the image detached, and returns its root.
func openFileSystem(image *os.File, options []string) (int, error) {
	loop, err := attachLoop(image)
	if err != nil {
		return -1, err
	}
	defer loop.Close() // the mount keeps it
	return mounts.FileSystem{Type: "ext4", Source: loop.Name(), Options: options}.Open()
}

// Measure returns the image's size on disk: it is sparse.
func (Driver) Measure(_ context.Context, v driver.Volume) (uint64, error) {
	var stat unix.Stat_t
	err := unix.Stat(imageOf(v), &stat)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return uint64(stat.Blocks) * 512, err
}

// Growth returns how much the image can still grow. If the disk is full then, a
// container's writes fail as on a broken disk, and the file system becomes
// read-only.
func (Driver) Growth(v driver.Volume) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(imageOf(v), &stat); err != nil {
		return 0, &os.PathError{Op: "stat", Path: imageOf(v), Err: err}
	}
	return uint64(max(stat.Size-stat.Blocks*512, 0)), nil
}
