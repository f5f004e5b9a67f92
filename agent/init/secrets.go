package containerinit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// secretFiles are the files of one run's secrets. This agent cannot mount, so
// they lie in the container's file system while its main process runs.
type secretFiles struct {
	paths []string // with no link in them
	undo  []func() error
	// By the requested paths.
	sockets map[string]*runSocket
	times   map[string]times // of directories that were there
}

// times are a directory's modification times before and after secrets were put
// into it.
type times struct{ before, after time.Time }

// asideSuffix ends the name of a file that a secret replaces for now.
const asideSuffix = ".sockerless-aside"

// placeSecrets writes secrets, none of which may be on a mount. If one fails, it
// removes all. Nothing of the container runs.
func placeSecrets(secrets []*agentv1.SecretFile, isMounted func(string) bool) (*secretFiles, error) {
	placed := &secretFiles{times: map[string]times{}, sockets: map[string]*runSocket{}}
	for _, secret := range secrets {
		if err := placed.add(secret, isMounted); err != nil {
			return nil, errors.Join(fmt.Errorf("put a file at %s: %w", secret.Path, err), placed.remove())
		}
	}
	for directory, kept := range placed.times {
		now, err := os.Stat(directory)
		if err != nil {
			return nil, errors.Join(err, placed.remove())
		}
		placed.times[directory] = times{kept.before, now.ModTime()}
	}
	return placed, nil
}

func (f *secretFiles) add(secret *agentv1.SecretFile, isMounted func(string) bool) error {
	if !filepath.IsAbs(secret.Path) || filepath.Clean(secret.Path) == "/" {
		return errors.New("the path is not that of a file")
	}
	directory, err := f.makeDirectory(filepath.Dir(filepath.Clean(secret.Path)))
	if err != nil {
		return err
	}
	name := filepath.Join(directory, filepath.Base(secret.Path))
	if isMounted(name) {
		return errors.New("a mount would keep it")
	}
	if err := f.keepTime(directory); err != nil {
		return err
	}
	f.paths = append(f.paths, name)
	if _, err := os.Lstat(name); err == nil {
		aside := name + asideSuffix
		if err := os.Rename(name, aside); err != nil {
			return err
		}
		f.paths = append(f.paths, aside)
		f.undo = append(f.undo, func() error { return os.Rename(aside, name) })
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.undo = append(f.undo, func() error { return os.RemoveAll(name) })
	if secret.Socket {
		socket, err := listenAt(name, secret)
		if err == nil {
			f.sockets[secret.Path] = socket
			f.undo = append(f.undo, socket.close)
		}
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(secret.Content)
	return errors.Join(err, file.Chown(int(secret.Uid), int(secret.Gid)), file.Chmod(os.FileMode(secret.Mode).Perm()), file.Close())
}

// makeDirectory creates a missing directory, and returns its path without links.
// A created directory that is empty is removed with the secrets.
func (f *secretFiles) makeDirectory(name string) (string, error) {
	resolved, err := filepath.EvalSymlinks(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return resolved, err
	}
	above, err := f.makeDirectory(filepath.Dir(name))
	if err != nil {
		return "", err
	}
	if err := f.keepTime(above); err != nil {
		return "", err
	}
	made := filepath.Join(above, filepath.Base(name))
	if err := os.Mkdir(made, 0o755); err != nil {
		return "", err
	}
	f.undo = append(f.undo, func() error {
		if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
		return nil
	})
	return made, nil
}

// keepTime restores the directory's current time later, unless the container
// itself changes it.
func (f *secretFiles) keepTime(directory string) error {
	if _, known := f.times[directory]; known {
		return nil
	}
	now, err := os.Stat(directory)
	if err == nil {
		f.times[directory] = times{before: now.ModTime()}
	}
	return err
}

// remove removes the secrets, and restores what they replaced.
func (f *secretFiles) remove() error {
	maps.DeleteFunc(f.times, func(directory string, kept times) bool {
		now, err := os.Stat(directory)
		return err != nil || !now.ModTime().Equal(kept.after)
	})
	var failed error
	for _, each := range slices.Backward(f.undo) {
		failed = errors.Join(failed, each())
	}
	for directory, kept := range f.times {
		if err := os.Chtimes(directory, kept.before, kept.before); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	f.undo, f.times = nil, nil
	return failed
}

// isRemoved reports whether the secrets have been removed.
func (f *secretFiles) isRemoved() bool { return f.undo == nil }
