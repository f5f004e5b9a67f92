// Package disk measures the directories of containers and volumes.
package disk

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// file identifies a file that may have several names.
type file struct{ device, inode uint64 }

// Measure returns the bytes of the regular files beneath a directory, counting
// hard-linked ones once. Missing directories and vanishing files count nothing.
// Links are never followed.
func Measure(ctx context.Context, directory string) (uint64, error) {
	root, err := os.OpenRoot(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var total uint64
	linked := map[file]bool{}
	err = fs.WalkDir(root.FS(), ".", func(_ string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		size, err := sizeOnce(entry, linked)
		total += size
		return err
	})
	return total, err
}

func sizeOnce(entry fs.DirEntry, linked map[file]bool) (uint64, error) {
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		name := file{uint64(stat.Dev), stat.Ino}
		if linked[name] {
			return 0, nil
		}
		linked[name] = true
	}
	return uint64(info.Size()), nil
}
