package layers

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Whiteouts of the OCI image specification: `.wh.NAME` hides NAME of the layers
// beneath, `.wh..wh..opq` hides their whole directory. Neither affects the
// layer's own files, in any order of entries.
const (
	whiteoutPrefix = ".wh."
	// Other names with this prefix are AUFS's bookkeeping and are ignored.
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
	return nil // the layer's own file already hides the one beneath
}

// isWhiteout recognises overlayfs's form of `.wh.NAME`.
func isWhiteout(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0
}

// replaceWhiteout replaces a whiteout on a later entry's path by a directory,
// which hides what the whiteout hid.
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
