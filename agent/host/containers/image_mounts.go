package containers

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// mountImages mounts the container's further images, and returns the bind sources
// by destination.
func (l *launch) mountImages() (map[string]string, error) {
	sources := map[string]string{}
	for index, m := range l.request.ImageMounts {
		source, err := l.mountImage(fmt.Sprint(index), m)
		if err != nil {
			return nil, fmt.Errorf("mount an image at %s: %w", m.Destination, err)
		}
		sources[m.Destination] = source
	}
	return sources, nil
}

func (l *launch) mountImage(name string, m *hostv1.Mount) (string, error) {
	directory := filepath.Join(imagesDirectory(l.paths), name)
	stack, err := l.layers.Stack(m.LayerDiffIds)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", err
	}
	overlay := mounts.Overlay{Lower: stack.Lower}
	if !m.ReadOnly {
		written := filepath.Join(l.paths.WrittenToImages(), name)
		overlay.Upper, overlay.Work = filepath.Join(written, "upper"), filepath.Join(written, "work")
		if err := errors.Join(os.MkdirAll(overlay.Upper, 0o755), os.MkdirAll(overlay.Work, 0o700)); err != nil {
			return "", err
		}
	}
	if err := overlay.Mount(directory); err != nil {
		return "", err
	}
	part, err := openPart(directory, m.Subpath, m.SubpathInImage)
	if err != nil {
		return "", err
	}
	defer part.Close()
	// Resolved, so that the runtime does not follow a link out of the image.
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", part.Fd()))
}

// openPart opens (O_PATH) a path of a mounted image. Links on the way are
// resolved inside the image, or else treated as in a volume. A missing path is
// os.ErrNotExist.
func openPart(image, subpath string, inImage bool) (*os.File, error) {
	if !inImage {
		return volumes.OpenPart(image, cmp.Or(subpath, "."))
	}
	root, err := confined.Open(image)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fd, err := root.Open(subpath, unix.O_PATH, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot access path %s: %w", filepath.Join(image, subpath), err)
	}
	return os.NewFile(uintptr(fd), subpath), nil
}

// imagesDirectory is where a running container's further images are mounted.
func imagesDirectory(paths shimspec.ContainerPaths) string { return filepath.Join(paths.Run, "images") }

func unmountImages(paths shimspec.ContainerPaths) error {
	entries, err := os.ReadDir(imagesDirectory(paths))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		err = errors.Join(err, mounts.Unmount(filepath.Join(imagesDirectory(paths), entry.Name())))
	}
	return err
}

// cloneImage returns a detached mount of an image, or of a part of it. The whole
// image is mounted meanwhile, at a path of its own: a look that its client has left
// may have one mounted for the same container.
func (c *Containers) cloneImage(id string, m mount) (tree *os.File, err error) {
	stack, err := c.layers.Stack(m.Layers)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.viewsPath(), 0o700); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(c.viewsPath(), id[:16]+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, mounts.Unmount(scratch), os.Remove(scratch)) }()
	if err := (mounts.Overlay{Lower: stack.Lower}).Mount(scratch); err != nil {
		return nil, err
	}
	part, err := openPart(scratch, m.Subpath, m.SubpathInImage)
	if err != nil {
		return nil, err
	}
	defer part.Close()
	return mounts.Clone(part, true)
}
