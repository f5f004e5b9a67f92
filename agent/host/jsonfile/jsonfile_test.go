package jsonfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/descriptors/descriptorstest"
	"github.com/sockerless/sockerless/agent/host/batch"
)

// Records synced in the background are there at once.
func TestSoonDurable(t *testing.T) {
	dir := t.TempDir()
	const records = 4 * mostGathered
	for n := range records {
		assert.NilError(t, WriteSoonDurable(filepath.Join(dir, fmt.Sprint(n%8)), n))
		var read int
		if whole, err := Read(filepath.Join(dir, fmt.Sprint(n%8)), &read); err != nil || !whole || read != n {
			t.Fatalf("record %d: read %d, %t, %v", n, read, whole, err)
		}
	}
	unsynced.Settle(time.Minute)
	if open := descriptorstest.OpenBeneath(t, dir); open > 0 {
		t.Errorf("%d files are open", open)
	}
}

// A queued record is not open, so that the space of a deleted one is free at
// once.
func TestRecordsThatWaitAreNotOpen(t *testing.T) {
	dir := t.TempDir()
	syncing, synced := make(chan struct{}), make(chan struct{})
	s := newSyncer(0, func(*os.File) error {
		syncing <- struct{}{}
		<-synced
		return nil
	})
	const records = 8
	for n := range records {
		assert.NilError(t, writeBefore(s, filepath.Join(dir, fmt.Sprint(n)), n))
	}
	for range records {
		<-syncing
		if open := descriptorstest.OpenBeneath(t, dir); open != 1 {
			t.Errorf("%d files are open", open)
		}
		synced <- struct{}{}
	}
}

// recordedSyncer also returns the content of each file that it syncs.
func recordedSyncer(gathering time.Duration) (s *batch.Queue, synced chan string) {
	synced = make(chan string, 2*mostGathered)
	return newSyncer(gathering, func(file *os.File) error {
		content, err := io.ReadAll(file)
		synced <- string(content)
		return errors.Join(err, file.Sync())
	}), synced
}

func TestSoonDurableRecordsAreSynced(t *testing.T) {
	s, synced := recordedSyncer(0)
	for _, record := range []string{"first", "second"} {
		assert.NilError(t, writeBefore(s, filepath.Join(t.TempDir(), "record"), record))
		if content := <-synced; content != strconv.Quote(record) {
			t.Errorf("synced is %s, not %s", content, record)
		}
	}
}

func TestSoonDurableRecordsThatAreGoneAreNotSynced(t *testing.T) {
	s, synced := recordedSyncer(time.Hour)
	gone, stays := filepath.Join(t.TempDir(), "gone"), filepath.Join(t.TempDir(), "stays")
	assert.NilError(t, errors.Join(writeBefore(s, gone, "gone"), os.Remove(gone), writeBefore(s, stays, "stays")))
	s.Settle(time.Hour)
	if found := len(synced); found != 1 {
		t.Errorf("%d records are synced", found)
	}
	if content := <-synced; content != `"stays"` {
		t.Errorf("synced is %s", content)
	}
}

// A process that is about to exit does not wait for the gathering.
func TestWhoLeavesWaitsForSoonDurableRecords(t *testing.T) {
	s, synced := recordedSyncer(time.Hour)
	dir := t.TempDir()
	s.Settle(time.Hour) // nothing waits
	for range 2 {
		for _, name := range []string{"a", "b"} {
			assert.NilError(t, writeBefore(s, filepath.Join(dir, name), name))
		}
		s.Settle(time.Hour)
		if found := len(synced); found != 2 {
			t.Fatalf("%d records are synced", found)
		}
		for range 2 {
			<-synced
		}
	}
}

func TestWhoLeavesWaitsForAMomentOnly(t *testing.T) {
	release := make(chan struct{})
	s := newSyncer(0, func(*os.File) error { <-release; return nil })
	assert.NilError(t, writeBefore(s, filepath.Join(t.TempDir(), "record"), 1))
	s.Settle(time.Millisecond)
	close(release)
	s.Settle(time.Hour)
}

func TestARecordThatTheDiskHasLostIsNotThere(t *testing.T) {
	var read int
	if whole, err := Read(t.TempDir(), &read); whole || err != nil {
		t.Errorf("a directory: %t, %v", whole, err)
	}
	// The first page of this process cannot be read: EIO.
	if whole, err := Read("/proc/self/mem", &read); whole || err != nil {
		t.Errorf("a lost block: %t, %v", whole, err)
	}
	if whole, err := Read("/proc/self/exe/record", &read); whole || err == nil {
		t.Errorf("an error of another kind: %t, %v", whole, err)
	}
}
