package machine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupPatience bounds the wait for killed processes to leave their cgroup.
const cgroupPatience = 5 * time.Second

// RemoveCgroups kills the processes of the cgroup at this path, in every
// hierarchy, and removes it recursively. A missing one is not an error. The
// runtime does this for containers that it knows; one that was killed while it
// created a container does not know it.
func RemoveCgroups(ctx context.Context, path string) error {
	roots := []string{cgroupRoot}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return err
	}
	for _, entry := range entries { // version 1: one for each hierarchy
		if entry.IsDir() {
			roots = append(roots, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	var failures []error
	for _, root := range roots {
		failures = append(failures, RemoveCgroup(ctx, filepath.Join(root, path)))
	}
	return errors.Join(failures...)
}

// RemoveCgroup is RemoveCgroups for one directory.
func RemoveCgroup(ctx context.Context, cgroup string) error {
	retry := time.NewTicker(2 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(cgroupPatience); ; {
		err := tryRemoveCgroup(cgroup)
		if err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryRemoveCgroup fails with EBUSY while killed processes remain.
func tryRemoveCgroup(cgroup string) error {
	var directories []string
	err := filepath.WalkDir(cgroup, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			directories = append(directories, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, directory := range slices.Backward(directories) { // the deepest first
		if err := killProcesses(directory); err != nil {
			return err
		}
		if err := os.Remove(directory); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func killProcesses(cgroup string) error {
	content, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(content)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone already
		}
	}
	return nil
}
