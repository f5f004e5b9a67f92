package layers

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Whiteouts as the OCI image specification has them: `.wh.NAME` hides NAME of
// the layers beneath, `.wh..wh..opq` hides all that its directory has there.
// Neither says anything about the layer's own files, in whatever order they come.
const (
	whiteoutPrefix = ".wh."
	// Other names that begin so are AUFS' bookkeeping and mean nothing to us.
	metadataPrefix = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

func (u *unpacker) whiteout(parent int, directory, base string) error {
	if base == opaqueName {
		u.rootOpaque = u.rootOpaque || directory == "."
		return setOpaque(parent, ".")
	}
	if strings.HasPrefix(base, metadataPrefix) {
		return nil
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("a whiteout of nothing")
	}
	var stat unix.Stat_t
	err := unix.Fstatat(parent, hidden, &stat, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		return unix.Mknodat(parent, hidden, unix.S_IFCHR, 0)
	case err != nil:
		return err
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return setOpaque(parent, hidden)
	}
	return nil // the layer's own file hides the one beneath already
}

// isWhiteout: overlayfs' form of `.wh.NAME`.
func isWhiteout(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0
}

// replaceWhiteout makes a directory of a whiteout that a later entry's path
// leads through, and that directory hides what the whiteout hid.
func replaceWhiteout(parent int, element string) (bool, error) {
	var stat unix.Stat_t
	if err := unix.Fstatat(parent, element, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if !isWhiteout(&stat) {
		return false, nil
	}
	if err := unix.Unlinkat(parent, element, 0); err != nil {
		return false, err
	}
	if err := unix.Mkdirat(parent, element, 0o755); err != nil {
		return false, err
	}
	return true, setOpaque(parent, element)
}

func setOpaque(parent int, directory string) error {
	path := fmt.Sprintf("/proc/self/fd/%d/%s", parent, directory)
	if err := unix.Lsetxattr(path, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("mark as opaque: %w", err)
	}
	return nil
}
