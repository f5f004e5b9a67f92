package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
)

// Seed copies the directory path of an image into the volume's directory, with
// all that belongs to its files, and gives it the directory's owner and mode. A
// volume that has something in it is left alone, unless it is from a seeding that
// was broken off: a marker beside the directory tells, and then what is there is
// completed. A path that is no directory in the image leaves the volume empty.
func Seed(ctx context.Context, image *confined.Root, path, volume string) error {
	marker := filepath.Join(filepath.Dir(volume), "."+filepath.Base(volume)+".seeding")
	brokenOff, err := exists(marker)
	if err != nil {
		return err
	}
	empty, err := isEmpty(volume)
	if err != nil || !empty && !brokenOff {
		return err
	}
	source, err := image.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(source)
	target, err := unix.Open(volume, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: volume, Err: err}
	}
	defer unix.Close(target)
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		return err
	}
	c := copier{ctx: ctx, links: map[inode]string{}, root: target}
	if err := c.directory(source, target, "", 0); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return os.Remove(marker)
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func isEmpty(directory string) (bool, error) {
	handle, err := os.Open(directory)
	if err != nil {
		return false, err
	}
	defer handle.Close()
	names, err := handle.Readdirnames(1)
	if len(names) > 0 {
		return false, nil
	}
	// A file system of the volume's own begins with this directory.
	return true, ignoreEOF(err)
}
