// Package descriptorstest is for tests of what a process holds open.
package descriptorstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// OpenBeneath counts this process's descriptors of files in a directory, while
// nothing opens or closes one: it looks at one after the other.
func OpenBeneath(t *testing.T, dir string) (count int) {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range descriptors {
		target, _ := os.Readlink(filepath.Join("/proc/self/fd", each.Name()))
		if strings.HasPrefix(target, dir+"/") {
			count++
		}
	}
	return count
}
