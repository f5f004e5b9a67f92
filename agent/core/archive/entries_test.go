package archive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEntriesComeWithoutWhatTheyContain(t *testing.T) {
	r, dir, outside := newRoot(t)
	plant(t, dir, [2]string{"d/deep/file", "content"}, [2]string{"file", "content"})
	plant(t, outside, [2]string{"secret", "content"})
	must(t, os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "same")))
	must(t, os.Symlink("/d", filepath.Join(dir, "link")))
	must(t, os.Symlink(outside, filepath.Join(dir, "away")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	must(t, unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o600, 0))
	var out bytes.Buffer
	must(t, r.WriteEntries(t.Context(), []string{
		"/", "/file", "/same", "/gone", "/gone/file", "/file/below", "/d", "/link", "/link/deep", "/away/secret", "/loop", "/loop/x", "/socket",
	}, &out))
	var found []string
	for _, header := range headers(t, out.Bytes()) {
		found = append(found, fmt.Sprintf("%s %c %d %s", header.Name, header.Typeflag, header.Size, header.Linkname))
	}
	if want := []string{"/ 5 0 ", "/file 0 0 ", "/same 0 0 ", "/d/ 5 0 ", "/link 2 0 /d", "/link/deep/ 5 0 ", "/loop 2 0 loop"}; !slices.Equal(found, want) {
		t.Errorf("%q", found)
	}
}
