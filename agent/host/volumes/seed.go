package volumes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
)

// Seed copies the directory path of an image into the place that source names,
// a volume's directory or a part of it, with all that belongs to its files, and
// gives it the directory's owner and mode. A directory that is not empty is
// left alone, unless a seeding of it was broken off: a marker beside the
// volume's directory, where no container writes, tells, and the seeding is
// completed. A path that is no directory in the image leaves the volume empty,
// and so does a part of it that is not there or is a file: the mount of that
// says so. A volume that is mounted is so for the holder. Errors as OpenSource.
func (s *Store) Seed(ctx context.Context, image *confined.Root, path, source, holder string) error {
	content, err := image.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(content)
	if err := s.Hold(ctx, holder, source); err != nil {
		return err
	}
	// Opened once: a container that has the volume, too, may change what the path
	// leads to.
	held, err := s.OpenSource(source)
	if s.IsPart(source) && isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer held.Close()
	target, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", held.Fd()), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) && s.IsPart(source) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	marker := s.marker(source)
	brokenOff, err := exists(marker)
	if err != nil {
		return err
	}
	empty, err := isEmpty(target)
	if err != nil || !empty && !brokenOff {
		return err
	}
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		return err
	}
	c := copier{ctx: ctx, links: map[inode]string{}, root: int(target.Fd())}
	if err := c.directory(content, int(target.Fd()), "", 0); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return os.Remove(marker)
}

// marker is the file that tells of a seeding under way.
func (s *Store) marker(source string) string {
	volume, part, ours := s.split(source)
	if !ours {
		volume, part = filepath.Clean(source), "."
	}
	name := "." + filepath.Base(volume)
	if part != "." {
		digest := sha256.Sum256([]byte(part))
		name += "." + hex.EncodeToString(digest[:8])
	}
	return filepath.Join(filepath.Dir(volume), name+".seeding")
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func isEmpty(directory *os.File) (bool, error) {
	handle, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", directory.Fd())) // with a position of its own
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
