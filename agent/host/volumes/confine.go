package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// OpenSource is [BindCheck.Open] for one source.
func (s *Store) OpenSource(source string) (*os.File, error) {
	binds := &BindCheck{store: s}
	if _, _, ours := s.split(source); !ours {
		var err error
		if binds, err = s.CheckBinds(); err != nil {
			return nil, err
		}
	}
	return binds.Open(source)
}

// OpenPart opens (O_PATH) a path beneath a directory. A link that leads out of it
// is INVALID_ARGUMENT, a missing path os.ErrNotExist.
func OpenPart(directory, subpath string) (*os.File, error) {
	base, err := unix.Open(directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: directory, Err: err}
	}
	defer unix.Close(base)
	path := filepath.Join(directory, subpath)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := openat.Open(base, subpath, &how)
	if errors.Is(err, unix.EXDEV) {
		return nil, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("path concatenation escapes the base directory, base: %s, subpath: %s", directory, subpath))
	}
	if subpath != "." && isMissing(err) {
		return nil, fmt.Errorf("cannot access path %s: %w", path, err)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func isMissing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

// BindCheck refuses binds of what belongs to exclusive volumes. It looks at
// these once, for all paths of a request, and into them for files alone.
type BindCheck struct {
	store     *Store
	directory string // the store's, without links
	// The names of volumes by what they consist of.
	directories, files func() map[inode]string
	devices            func() (map[uint64]string, error) // of those that are mounted
}

// CheckBinds returns a check that looks at the exclusive volumes.
func (s *Store) CheckBinds() (*BindCheck, error) {
	directory, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		return nil, err
	}
	return &BindCheck{
		s, directory, sync.OnceValue(s.exclusiveDirectories), sync.OnceValue(s.exclusiveFiles), sync.OnceValues(s.exclusiveDevices),
	}, nil
}

// exclusiveDirectories leaves out volumes that are being made or removed, which
// have nothing to be bound.
func (s *Store) exclusiveDirectories() map[inode]string {
	all := map[inode]string{}
	for name := range s.exclusive.Range {
		var stat unix.Stat_t
		if unix.Stat(filepath.Join(s.dir, name.(string)), &stat) == nil {
			all[inodeOf(&stat)] = name.(string)
		}
	}
	return all
}

func (s *Store) exclusiveFiles() map[inode]string {
	all := map[inode]string{}
	for name := range s.exclusive.Range {
		directory := filepath.Join(s.dir, name.(string))
		inside, _ := os.ReadDir(directory)
		for _, each := range inside {
			var stat unix.Stat_t
			if each.Type().IsRegular() && unix.Lstat(filepath.Join(directory, each.Name()), &stat) == nil {
				all[inodeOf(&stat)] = name.(string)
			}
		}
	}
	return all
}

// exclusiveDevices looks at held volumes alone: others are not mounted.
func (s *Store) exclusiveDevices() (map[uint64]string, error) {
	all := map[uint64]string{}
	held, err := os.ReadDir(s.held)
	for _, each := range held {
		v := driver.Volume{Name: each.Name(), Dir: filepath.Join(s.dir, each.Name())}
		var around, shown unix.Stat_t
		if _, ok := s.exclusive.Load(v.Name); ok && unix.Stat(v.Dir, &around) == nil && unix.Stat(v.Data(), &shown) == nil && shown.Dev != around.Dev {
			all[shown.Dev] = v.Name
		}
	}
	return all, err
}

func inodeOf(stat *unix.Stat_t) inode { return inode{stat.Dev, stat.Ino} }

// Open opens (O_PATH) the source of a mount. Since containers write to volumes, a
// path in one of the store's is resolved beneath that volume's directory: a link
// that leads out of it is INVALID_ARGUMENT, a missing path os.ErrNotExist. Other
// paths are the user's own, and refused as in Refuse.
func (c *BindCheck) Open(source string) (*os.File, error) {
	if volume, subpath, ours := c.store.split(source); ours {
		return OpenPart(volume, subpath)
	}
	if err := c.Refuse(source); err != nil {
		return nil, err
	}
	return os.OpenFile(source, unix.O_PATH|unix.O_CLOEXEC, 0)
}

// Refuse refuses a path of the machine that leads into an exclusive volume, or to
// its device: a bind would bypass its owner. It also refuses one in the directory
// of a volume that does not exist, which would be mistaken for one.
// INVALID_ARGUMENT.
func (c *BindCheck) Refuse(source string) error {
	s := c.store
	real := realPath(source)
	rest, below := strings.CutPrefix(real, c.directory+"/")
	if !below { // a volume's directory may be a link to another disk
		rest, below = strings.CutPrefix(filepath.Clean(source), filepath.Clean(s.dir)+"/")
	}
	if !below {
		return c.refuseOtherNames(source, real)
	}
	name, _, _ := strings.Cut(rest, "/")
	v, d, err := s.find(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(v.Dir); err != nil {
		return driver.Invalid("bind source path %s is where volume %s would be, and there is none of that name", source, name)
	}
	if isExclusive(d) {
		return ofOneContainer(source, name, d)
	}
	return c.refuseOtherNames(source, real)
}

// refuseOtherNames refuses a path into an exclusive volume under another name: it
// contains the volume's directory, is a file of it, as by another mount or a hard
// link, is on its mounted file system, or is its device.
func (c *BindCheck) refuseOtherNames(source, real string) error {
	isFirst := true // that exists
	for at := real; at != "/" && at != "."; at = filepath.Dir(at) {
		var stat unix.Stat_t
		if unix.Stat(at, &stat) != nil {
			continue
		}
		names := []string{c.directories()[inodeOf(&stat)]}
		if isFirst {
			isFirst = false
			devices, err := c.devices()
			if err != nil {
				return err
			}
			names = append(names, devices[deviceOf(&stat)])
			if stat.Mode&unix.S_IFMT == unix.S_IFREG {
				names = append(names, c.files()[inodeOf(&stat)])
			}
		}
		for _, name := range names {
			if err := c.refuseOf(source, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// deviceOf is the device that a file is, or that of its file system.
func deviceOf(stat *unix.Stat_t) uint64 {
	if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		return stat.Rdev
	}
	return stat.Dev
}

// refuseOf refuses a path into the named volume, if it is still an exclusive one;
// empty: no volume.
func (c *BindCheck) refuseOf(source, name string) error {
	if name == "" {
		return nil
	}
	v, d, err := c.store.find(name)
	if err != nil || !isExclusive(d) {
		return nil // its users get the error of a damaged record
	}
	return ofOneContainer(source, v.Name, d)
}

func isExclusive(d driver.Driver) bool {
	return d.Traits().Sharing == hostv1.VolumeSharing_VOLUME_SHARING_EXCLUSIVE
}

func ofOneContainer(source, name string, d driver.Driver) error {
	return driver.Invalid("bind source path %s is in volume %s: one of the driver %s belongs to one container alone, which mounts it by its name (--volume %s:/path)",
		source, name, d.Traits().Name, name)
}

// refusePaths refuses options that are or contain paths, like [BindCheck.Refuse].
// It also refuses a comma in a path of `o`: overlay allows to escape it by a
// backslash, but neither do other file systems nor the code that removes `ro` and
// the like. DEADLINE_EXCEEDED: a path is on a file system that does not answer.
func (s *Store) refusePaths(ctx context.Context, options map[string]string) error {
	if strings.Contains(options["o"], `\,`) {
		return driver.Invalid(`option "o" has a comma in a path, which file systems read in different ways: give it another name`)
	}
	binds, err := s.CheckBinds()
	if err != nil {
		return err
	}
	for _, path := range pathsOf(options) {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if err := s.paths.Do(ctx, absolute, func() error { return binds.Refuse(absolute) }); err != nil {
			return err
		}
	}
	return nil
}

// pathsOf returns possible paths in options: `o` has some behind `=`, and lists
// of them separated by `:`, such as overlay's layers. A backslash escapes a
// separator only for overlay.
func pathsOf(options map[string]string) []string {
	var paths []string
	for option, value := range options {
		if option != "o" {
			paths = append(paths, value)
			continue
		}
		for each := range strings.SplitSeq(value, ",") {
			_, value, _ := strings.Cut(each, "=")
			for _, path := range append(splitUnescaped(value, ':'), value) {
				paths = append(paths, escaped.ReplaceAllString(path, "$1"))
			}
			paths = append(paths, value)
		}
	}
	return slices.DeleteFunc(paths, func(path string) bool { return path == "" })
}

var escaped = regexp.MustCompile(`\\(.)`)

func splitUnescaped(text string, separator byte) []string {
	var parts []string
	begin := 0
	for at := 0; at < len(text); at++ {
		switch text[at] {
		case '\\':
			at++
		case separator:
			parts = append(parts, text[begin:at])
			begin = at + 1
		}
	}
	return append(parts, text[begin:])
}

// realPath follows the links of a path, as far as it exists.
func realPath(path string) string {
	for missing := ""; ; {
		real, err := filepath.EvalSymlinks(path)
		if err == nil || path == "/" || path == "." {
			return filepath.Join(real, missing)
		}
		missing = filepath.Join(filepath.Base(path), missing)
		path = filepath.Dir(path)
	}
}

// PartOf returns the directory of the volume that a path lies below; empty: it
// is a whole volume, or lies in none.
func (s *Store) PartOf(source string) string {
	volume, subpath, ours := s.split(source)
	if !ours || subpath == "." {
		return ""
	}
	return volume
}

// split reports whether a path lies in a volume of this store, and returns the
// volume's directory and the path in it.
func (s *Store) split(source string) (volume, subpath string, ours bool) {
	rest, below := strings.CutPrefix(filepath.Clean(source), filepath.Clean(s.dir)+"/")
	parts := strings.SplitN(rest, "/", 3)
	if !below || len(parts) < 2 {
		return "", "", false
	}
	subpath = "."
	if len(parts) == 3 {
		subpath = parts[2]
	}
	return filepath.Join(s.dir, parts[0], parts[1]), subpath, true
}
