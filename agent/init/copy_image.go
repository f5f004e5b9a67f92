package containerinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/openat"
	"github.com/sockerless/sockerless/agent/init/treecopy"
)

// failureFile is where a container that prepares the task leaves its error for
// the main container's agent, whose start reports it.
const failureFile = agentDirectory + "/failure"

// CopyImage is `sockerless-agent copy-image DEST [SUBPATH]`: in a container of an
// image that another container of the task mounts, it copies the image's files,
// or those in its directory SUBPATH, into the empty directory DEST. It returns
// the process's exit code: 0 even after an error that the main container's agent
// will report.
func CopyImage(arguments []string) int {
	if len(arguments) < 1 || len(arguments) > 2 || arguments[0] == "" {
		fmt.Fprintln(os.Stderr, "usage: sockerless-agent copy-image DEST [SUBPATH]")
		return exitUsage
	}
	subpath := ""
	if len(arguments) == 2 {
		subpath = arguments[1]
	}
	err := copyImage(arguments[0], subpath)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "sockerless-agent copy-image:", err)
	if err := os.WriteFile(failureFile, []byte(err.Error()), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "sockerless-agent copy-image: nobody is told:", err)
		return 1
	}
	return 0
}

func copyImage(dest, subpath string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("find the mounts: %w", err)
	}
	options := treecopy.Options{
		Mounts: archive.MountsOf(mounts),
		Hidden: map[string]bool{agentDirectory: true, filepath.Clean(dest): true},
	}
	if binary, err := os.Readlink(ownBinary); err == nil {
		options.Hidden[binary] = true // a derived image has the agent in its root
	}
	source, err := partOf("/", subpath)
	if err != nil {
		return err
	}
	for path := source; path != "/"; path = filepath.Dir(path) {
		if options.Hidden[path] || options.Mounts[path] {
			return noPath(subpath)
		}
	}
	if err := treecopy.Copy(source, dest, options); err != nil {
		return fmt.Errorf("copy the files of an image: %w", err)
	}
	return nil
}

// partOf returns the directory that subpath means inside root: links cannot leave
// the root.
func partOf(root, subpath string) (string, error) {
	directory, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(directory)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := openat.Open(directory, "./"+subpath, &how)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return "", fmt.Errorf("%s is no directory of the image: a file cannot be mounted in a task", subpath)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ELOOP):
		return "", noPath(subpath)
	case err != nil:
		return "", &os.PathError{Op: "open", Path: subpath, Err: err}
	}
	defer unix.Close(fd)
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}

func noPath(subpath string) error { return fmt.Errorf("the image has no path %s", subpath) }

// preparationFailure is the error left by a container that prepared the task.
func preparationFailure() error {
	text, err := os.ReadFile(failureFile)
	if err != nil {
		return nil // nobody has left one
	}
	return errors.New(strings.TrimSpace(string(text)))
}
