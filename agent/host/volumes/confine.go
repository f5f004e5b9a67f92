package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/openat"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// OpenSource opens (O_PATH) the source of a mount. Since containers write to
// volumes, a path in one of ours is resolved beneath that volume's directory: a
// link that leads out of it is INVALID_ARGUMENT, a missing path os.ErrNotExist.
// Other paths are the user's own.
func (s *Store) OpenSource(source string) (*os.File, error) {
	volume, subpath, ours := s.split(source)
	if !ours {
		if err := s.RefuseBind(source); err != nil {
			return nil, err
		}
		return os.OpenFile(source, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return OpenPart(volume, subpath)
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

// RefuseBind refuses a path of the machine that leads into an exclusive volume,
// or to its device: a bind would bypass its owner. It also refuses one in the
// directory of a volume that does not exist, which would be mistaken for one.
// INVALID_ARGUMENT.
func (s *Store) RefuseBind(source string) error {
	directory, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		return err
	}
	real := realPath(source)
	rest, below := strings.CutPrefix(real, directory+"/")
	if !below { // a volume's directory may be a link to another disk
		rest, below = strings.CutPrefix(filepath.Clean(source), filepath.Clean(s.dir)+"/")
	}
	if !below {
		return s.refuseMounted(source, real)
	}
	name, _, _ := strings.Cut(rest, "/")
	v, d, err := s.find(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(v.Dir); err != nil {
		return invalid("bind source path %s is where volume %s would be, and there is none of that name", source, name)
	}
	if isExclusive(d) {
		return ofOneContainer(source, name, d)
	}
	return s.refuseMounted(source, real)
}

// refuseMounted refuses a path that leads into the directory of an exclusive
// volume, is on its mounted file system, or is its device, under any name.
func (s *Store) refuseMounted(source, real string) error {
	if err := s.refuseSameFiles(source, real); err != nil {
		return err
	}
	var found unix.Stat_t
	for unix.Stat(real, &found) != nil {
		if real = filepath.Dir(real); real == "/" || real == "." {
			return nil
		}
	}
	device := found.Dev
	if found.Mode&unix.S_IFMT == unix.S_IFBLK {
		device = found.Rdev
	}
	names, err := os.ReadDir(s.held)
	if err != nil {
		return err
	}
	for _, name := range names {
		v, d, err := s.find(name.Name())
		if err != nil || !isExclusive(d) {
			continue // its users get the error of the damaged record
		}
		var around, shown unix.Stat_t
		if errors.Join(unix.Stat(v.Dir, &around), unix.Stat(v.Data(), &shown)) == nil && shown.Dev != around.Dev && shown.Dev == device {
			return ofOneContainer(source, v.Name, d)
		}
	}
	return nil
}

// refuseSameFiles refuses a path that contains such a volume's directory, or is a
// file of it, under another name: through another mount or a hard link.
func (s *Store) refuseSameFiles(source, real string) error {
	var passed []os.FileInfo
	for at := real; at != "/" && at != "."; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil {
			passed = append(passed, info)
		}
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range names {
		directory := filepath.Join(s.dir, entry.Name())
		files := []string{directory}
		if len(passed) > 0 && passed[0].Mode().IsRegular() {
			inside, _ := os.ReadDir(directory)
			for _, each := range inside {
				if each.Type().IsRegular() { // anything else may be a file system that does not answer
					files = append(files, filepath.Join(directory, each.Name()))
				}
			}
		}
		isOneOf := func(file string) bool {
			own, err := os.Stat(file)
			return err == nil && slices.ContainsFunc(passed, func(each os.FileInfo) bool { return os.SameFile(own, each) })
		}
		if !slices.ContainsFunc(files, isOneOf) {
			continue
		}
		if v, d, err := s.find(entry.Name()); err == nil && isExclusive(d) {
			return ofOneContainer(source, v.Name, d)
		}
	}
	return nil
}

func isExclusive(d driver.Driver) bool {
	return d.Traits().Sharing == hostv1.VolumeSharing_VOLUME_SHARING_EXCLUSIVE
}

func ofOneContainer(source, name string, d driver.Driver) error {
	return invalid("bind source path %s is in volume %s: one of the driver %s belongs to one container alone, which mounts it by its name (--volume %s:/path)",
		source, name, d.Traits().Name, name)
}

// refusePaths refuses options that are or contain paths, like [Store.RefuseBind].
// It also refuses a comma in a path of `o`: overlay allows to escape it by a
// backslash, but neither do other file systems nor the code that removes `ro` and
// the like.
func (s *Store) refusePaths(options map[string]string) error {
	if strings.Contains(options["o"], `\,`) {
		return invalid(`option "o" has a comma in a path, which file systems read in different ways: give it another name`)
	}
	for _, path := range pathsOf(options) {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		if err := s.RefuseBind(absolute); err != nil {
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

func invalid(format string, values ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, values...))
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
