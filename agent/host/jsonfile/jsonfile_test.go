package jsonfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/core/descriptors/descriptorstest"
)

// Synced behind the return, records are there at once. What waits is not open,
// so that the space of one that is deleted is free at once.
func TestSoonDurable(t *testing.T) {
	dir := t.TempDir()
	const records = 4 * mostGathered
	for n := range records {
		if err := WriteSoonDurable(filepath.Join(dir, fmt.Sprint(n%8)), n); err != nil {
			t.Fatal(err)
		}
		var read int
		if open := descriptorstest.OpenBeneath(t, dir); open > 1 {
			t.Fatalf("%d files are open", open)
		}
		if whole, err := Read(filepath.Join(dir, fmt.Sprint(n%8)), &read); err != nil || !whole || read != n {
			t.Fatalf("record %d: read %d, %t, %v", n, read, whole, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "0")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(behind) > 0 || descriptorstest.OpenBeneath(t, dir) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d records wait, %d are open", len(behind), descriptorstest.OpenBeneath(t, dir))
		}
	}
}
