package disk

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestFilesWithSeveralNamesAreRememberedWithinABound(t *testing.T) {
	const files = mostLinked + 1000
	w := &walk{linked: map[file]struct{}{}}
	for range 2 { // each has two names
		for inode := range uint64(files) {
			w.count(&unix.Stat_t{Ino: inode, Nlink: 2, Size: 1})
		}
	}
	if len(w.linked) > mostLinked || w.total != files+1000 {
		t.Errorf("%d are remembered, %d bytes", len(w.linked), w.total)
	}
}
