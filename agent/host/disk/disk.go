// Package disk measures the directories of containers and volumes.
package disk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// file identifies a file: it may have several names.
type file struct{ device, inode uint64 }

func fileOf(stat *unix.Stat_t) file { return file{uint64(stat.Dev), stat.Ino} }

// mostLinked bounds the files with several names that a walk remembers, some 40 MiB:
// a container makes any number of them. Further ones count by name.
const mostLinked = 1 << 20

// Measure returns the bytes of the regular files beneath a directory, counting
// hard-linked ones once as far as they are remembered. Missing directories and vanishing files count nothing.
// Links are never followed. It holds two descriptors, however deep the tree is, and
// takes a time that grows with the number of files alone: a container makes both.
func Measure(ctx context.Context, directory string) (uint64, error) {
	fd, err := openDirectory(unix.AT_FDCWD, directory)
	if isGone(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", directory, err)
	}
	w := &walk{ctx: ctx, linked: map[file]struct{}{}, current: fd}
	defer func() { unix.Close(w.current) }()
	err = w.run()
	return w.total, err
}

// level is a directory on the way to the current one, with the directories in it
// that are yet to be measured.
type level struct {
	itself file
	inside []string
}

type walk struct {
	ctx     context.Context
	total   uint64
	linked  map[file]struct{}
	current int
	levels  []level
}

func (w *walk) run() error {
	if err := w.enter(); err != nil {
		return err
	}
	for {
		top := &w.levels[len(w.levels)-1]
		step := ".."
		if last := len(top.inside) - 1; last >= 0 {
			step, top.inside = top.inside[last], top.inside[:last]
		} else if w.levels = w.levels[:len(w.levels)-1]; len(w.levels) == 0 {
			return nil
		}
		opened, err := openDirectory(w.current, step)
		if isGone(err) && step != ".." {
			continue
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", step, err)
		}
		unix.Close(w.current)
		w.current = opened
		if step != ".." {
			err = w.enter()
		} else if err = w.check(); errors.Is(err, errMoved) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errMoved means that the current directory was moved, and the rest cannot be found
// from it.
var errMoved = errors.New("moved")

// check compares the current directory with the one that it was entered from.
func (w *walk) check() error {
	var stat unix.Stat_t
	if err := unix.Fstat(w.current, &stat); err != nil {
		return err
	}
	if fileOf(&stat) != w.levels[len(w.levels)-1].itself {
		return errMoved
	}
	return nil
}

// enter counts the files of the current directory and lists its directories.
func (w *walk) enter() error {
	var stat unix.Stat_t
	if err := unix.Fstat(w.current, &stat); err != nil {
		return err
	}
	entered := level{itself: fileOf(&stat)}
	buffer := make([]byte, 32<<10)
	for {
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		n, err := unix.ReadDirent(w.current, buffer)
		if err != nil && !isGone(err) {
			return err
		}
		if n <= 0 {
			entered.inside = slices.Clip(entered.inside)
			w.levels = append(w.levels, entered)
			return nil
		}
		_, _, names := unix.ParseDirent(buffer[:n], -1, nil)
		for _, name := range names {
			if unix.Fstatat(w.current, name, &stat, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue // it vanished
			}
			switch stat.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				entered.inside = append(entered.inside, name)
			case unix.S_IFREG:
				w.count(&stat)
			}
		}
	}
}

func (w *walk) count(stat *unix.Stat_t) {
	if stat.Nlink > 1 {
		if _, counted := w.linked[fileOf(stat)]; counted {
			return
		}
		if len(w.linked) < mostLinked {
			w.linked[fileOf(stat)] = struct{}{}
		}
	}
	w.total += uint64(stat.Size)
}

// isGone reports whether a directory has vanished or was replaced.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func openDirectory(parent int, name string) (int, error) {
	return unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
