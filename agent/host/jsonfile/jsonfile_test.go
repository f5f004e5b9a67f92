package jsonfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/core/descriptors/descriptorstest"
)

// Synced behind the return, records are there at once, and their descriptors
// are given back.
func TestSoonDurable(t *testing.T) {
	dir := t.TempDir()
	const records = 256
	for n := range records {
		if err := WriteSoonDurable(filepath.Join(dir, fmt.Sprint(n%8)), n); err != nil {
			t.Fatal(err)
		}
		var read int
		if open := descriptorstest.OpenBeneath(t, dir); open > 2*mostGathered+1 {
			t.Fatalf("%d files are open", open)
		}
		if whole, err := Read(filepath.Join(dir, fmt.Sprint(n%8)), &read); err != nil || !whole || read != n {
			t.Fatalf("record %d: read %d, %t, %v", n, read, whole, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "0")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); descriptorstest.OpenBeneath(t, dir) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are still open", descriptorstest.OpenBeneath(t, dir))
		}
	}
}
