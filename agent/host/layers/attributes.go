package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const xattrRecord = "SCHILY.xattr."

// setAttributes sets the header's owner, mode, extended attributes and times on
// base in parent, in an order in which none undoes another: changing the owner
// clears set-user-ID and security.capability.
func setAttributes(parent int, base string, header *tar.Header) error {
	// -1 would mean "leave as it is".
	if header.Uid < 0 || int64(header.Uid) >= math.MaxUint32 || header.Gid < 0 || int64(header.Gid) >= math.MaxUint32 {
		return fmt.Errorf("owner %d:%d is out of range", header.Uid, header.Gid)
	}
	if err := unix.Fchownat(parent, base, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if header.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(parent, base, uint32(header.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	for record, value := range header.PAXRecords {
		if name, ok := strings.CutPrefix(record, xattrRecord); ok {
			if err := setXattr(parent, base, name, value); err != nil {
				return fmt.Errorf("set extended attribute %s: %w", name, err)
			}
		}
	}
	accessed := header.AccessTime
	if accessed.Before(header.ModTime) {
		accessed = header.ModTime
	}
	if err := unix.UtimesNanoAt(parent, base, timespecs(accessed, header.ModTime), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

func setXattr(parent int, base, name, value string) error {
	// Only whiteouts may set overlayfs's attributes, not an image.
	if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
		return nil
	}
	err := unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", parent, base), name, []byte(value), 0)
	// File systems differ in what they support; special files never have user.*.
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && strings.HasPrefix(name, "user.") {
		return nil
	}
	return err
}

func timespecs(accessed, modified time.Time) []unix.Timespec {
	return []unix.Timespec{timespec(accessed), timespec(modified)}
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
