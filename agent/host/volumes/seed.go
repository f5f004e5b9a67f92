package volumes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
)

// seedingSuffix ends the names of markers.
const seedingSuffix = ".seeding"

// Seed copies the directory path of an image into source, a volume's directory or
// a part of it, with all metadata of its files, and sets the directory's owner
// and mode. A directory that is not empty is left alone, unless a seeding for the
// same holder was interrupted: then a marker beside the volume's directory, where
// no container writes, has the holder, and the seeding is completed. For another
// holder it is not: containers may have written to the volume since. If path is
// not a directory in the image, the volume stays empty; a part that is missing or
// a file is skipped, since its mount reports the error. A mounted volume is
// mounted for the holder. Errors as in OpenSource.
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
	// Opened once: another container with the volume may change the path
	// meanwhile.
	held, err := s.OpenSource(source)
	if s.PartOf(source) != "" && isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer held.Close()
	target, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", held.Fd()), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) && s.PartOf(source) != "" {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	marker := s.marker(source)
	marked, err := os.ReadFile(marker)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	empty, err := isEmpty(target)
	if err != nil {
		return err
	}
	if string(marked) != holder {
		if !empty {
			return removeMarker(marker)
		}
		if err := os.WriteFile(marker, []byte(holder), 0o600); err != nil {
			return err
		}
	}
	c := copier{ctx: ctx, links: map[inode]string{}, root: int(target.Fd())}
	if err := c.directory(content, int(target.Fd()), "", 0); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return removeMarker(marker)
}

// forgetSeedings removes the markers of a volume and of its parts, apart from the
// holder's.
func (s *Store) forgetSeedings(volume, holder string) error {
	beside, err := os.ReadDir(filepath.Dir(volume))
	if errors.Is(err, os.ErrNotExist) {
		return nil // there is no volume
	}
	if err != nil {
		return err
	}
	for _, entry := range beside {
		if !strings.HasSuffix(entry.Name(), seedingSuffix) {
			continue
		}
		marker := filepath.Join(filepath.Dir(volume), entry.Name())
		marked, err := os.ReadFile(marker)
		if err == nil && string(marked) != holder {
			err = removeMarker(marker)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // completed meanwhile
			return err
		}
	}
	return nil
}

// removeMarker also succeeds if there is none.
func removeMarker(marker string) error {
	if err := os.Remove(marker); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// marker is the file that marks a seeding in progress, with its holder.
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
	return filepath.Join(filepath.Dir(volume), name+seedingSuffix)
}

func isEmpty(directory *os.File) (bool, error) {
	handle, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", directory.Fd())) // with its own position
	if err != nil {
		return false, err
	}
	defer handle.Close()
	names, err := handle.Readdirnames(1)
	if len(names) > 0 {
		return false, nil
	}
	// A volume's own file system begins with this directory.
	return true, ignoreEOF(err)
}
