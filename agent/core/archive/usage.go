package archive

import (
	"context"

	"golang.org/x/sys/unix"
)

// WrittenBytes is the size of what differs from the image, as Docker counts a
// writable layer: files and links, each once however many names it has.
func (l Live) WrittenBytes(ctx context.Context) (uint64, error) {
	return writtenBytes(func(visit changed) error { return l.walkChanges(ctx, changeReporter{visit: visit}, false) })
}

// WrittenBytes is the size of what differs from the image; see Live.WrittenBytes.
func (l Layers) WrittenBytes(ctx context.Context) (uint64, error) {
	return writtenBytes(func(visit changed) error { return l.walkChanges(ctx, changeReporter{visit: visit}, false) })
}

func writtenBytes(walk func(changed) error) (uint64, error) {
	var bytes uint64
	seen := map[inode]bool{}
	err := walk(func(_ Change, _ int, st *unix.Stat_t) error {
		if st == nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		if st.Nlink > 1 && len(seen) < maxLinked {
			id := inode{st.Dev, st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		bytes += uint64(st.Size)
		return nil
	})
	return bytes, err
}
