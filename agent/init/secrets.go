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

// secretFiles are the files that one run of a container has. This agent cannot
// mount: they lie where the container sees them, for as long as its main
// process runs.
type secretFiles struct {
	paths []string // with no link in them
	undo  []func() error
	// By the paths that they were asked for at.
	sockets map[string]*runSocket
	times   map[string]times // of directories that were there
}

// times are when a directory changed last, before secrets were put into it and
// after.
type times struct{ before, after time.Time }

// asideSuffix names what a secret takes the place of.
const asideSuffix = ".sockerless-aside"

// placeSecrets writes secrets, of which none may be on one of the mounts. What
// it cannot write whole it takes away again. Nothing of the container runs.
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

// makeDirectory makes a directory where it is missing, and answers it with no
// link in it. One that was made and is empty goes with the secrets.
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

// keepTime has a directory get back the time that it has now, unless the
// container itself changes it.
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

// remove takes the secrets away, and gives back what they took the place of.
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

// isRemoved reports whether the secrets were taken away.
func (f *secretFiles) isRemoved() bool { return f.undo == nil }
