package log

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// stalled is a disk that blocks until it is released.
type stalled struct {
	release chan struct{}
	begun   chan struct{}
	mu      sync.Mutex
	written strings.Builder
	err     error
}

func newStalled() *stalled {
	return &stalled{release: make(chan struct{}), begun: make(chan struct{}, 1000)}
}

func (s *stalled) write(_ Stream, _ time.Time, data []byte) error {
	s.begun <- struct{}{}
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written.Write(data)
	return s.err
}

func (s *stalled) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.String()
}

func TestABacklogDropsWholeLinesWhenTheDiskStalls(t *testing.T) {
	disk := newStalled()
	b := startBacklog(10, disk.write)
	add := func(text string) {
		t.Helper()
		assert.NilError(t, b.add(Stdout, time.Now(), []byte(text)))
	}
	add("first\n")
	<-disk.begun         // being written, so no longer queued
	add("12345678\n")    // 9 of 10
	add("dropped\nand ") // no room; a line is left in its middle
	add("so on\nx")      // its end is dropped with it; what follows has room
	close(disk.release)
	b.flush()
	add("yz\n") // nothing waits: there is room again
	b.close()
	if got := disk.text(); got != "first\n12345678\nxyz\n" {
		t.Errorf("%q was written", got)
	}
}

func TestALineOfWhichTheBeginIsKeptEndsWhereItsRestIsDropped(t *testing.T) {
	disk := newStalled()
	b := startBacklog(8, disk.write)
	for _, text := range []string{"held\n", "begin ", "of a line that ", "is long\n"} {
		assert.NilError(t, b.add(Stdout, time.Now(), []byte(text)))
		if text == "held\n" {
			<-disk.begun
		}
	}
	close(disk.release)
	b.flush()
	assert.NilError(t, b.add(Stdout, time.Now(), []byte("next\n")))
	b.close()
	if got := disk.text(); got != "held\nbegin \nnext\n" {
		t.Errorf("%q was written", got)
	}
}

func TestABacklogHoldsOneChunkHoweverSmallItIs(t *testing.T) {
	disk := newStalled()
	b := startBacklog(0, disk.write)
	for _, text := range []string{"a\n", "long line\n", "dropped\n"} {
		assert.NilError(t, b.add(Stdout, time.Now(), []byte(text)))
		if text == "a\n" {
			<-disk.begun
		}
	}
	close(disk.release)
	b.close()
	if got := disk.text(); got != "a\nlong line\n" {
		t.Errorf("%q was written", got)
	}
}

func TestAFailedWriteIsReportedUntilOneSucceeds(t *testing.T) {
	disk := newStalled()
	disk.err = errors.New("disk full")
	close(disk.release)
	b := startBacklog(100, disk.write)
	add := func(want error) {
		t.Helper()
		if err := b.add(Stdout, time.Now(), []byte("line\n")); !errors.Is(err, want) {
			t.Errorf("told %v, not %v", err, want)
		}
		b.flush()
	}
	add(nil)
	add(disk.err)
	add(disk.err)
	full := disk.err
	disk.mu.Lock()
	disk.err = nil
	disk.mu.Unlock()
	add(full) // the error of the previous chunk; this one is written
	add(full)
	add(nil)
	disk.mu.Lock()
	disk.err = full
	disk.mu.Unlock()
	add(nil)
	assert.Check(t, is.ErrorIs(b.close(), full), "told at the end")
	assert.Check(t, b.close(), "told again")
	if err := b.add(Stdout, time.Now(), []byte("late\n")); err == nil {
		t.Error("taken after the end")
	}
}

func TestALogWithABacklogHasEverythingAtTheEndOfARun(t *testing.T) {
	size := uint64(1 << 20)
	w := open(t, t.TempDir(), Settings{BufferSize: &size})
	want := strings.Repeat("line\n", 10_000)
	for range 10 {
		write(t, w, entry{Stdout, 1, want[:len(want)/10]})
	}
	end := endOf(t, w)
	if end == (Position{}) || end.offset < int64(len(want)) {
		t.Errorf("the end is at %v", end)
	}
	w.EndRun()
	r, err := w.Reader(both)
	if out, _ := everything(t, r, err); out != want {
		t.Errorf("%d bytes instead of %d", len(out), len(want))
	}
}

func TestALogWhoseDiskIsSlowKeepsNobodyWaitingButThoseWhoWait(t *testing.T) {
	size := uint64(1 << 20)
	w := open(t, t.TempDir(), Settings{BufferSize: &size})
	w.chain.mu.Lock() // as a write that lasts
	write(t, w, entry{Stdout, 1, "first\n"})
	told := make(chan *Mark)
	go func() {
		mark := w.End()
		w.EndRun()
		w.BeginRun()
		write(t, w, entry{Stdout, 2, "second\n"})
		told <- mark
	}()
	var mark *Mark
	select {
	case mark = <-told:
	case <-time.After(2 * time.Minute):
		t.Error("somebody waited for the disk")
	}
	w.chain.mu.Unlock()
	if mark == nil {
		mark = <-told
	}
	upTo, err := mark.Wait(t.Context())
	assert.NilError(t, err)
	r, err := w.Reader(ReadOptions{Stdout: true, UpTo: &upTo})
	if out, _ := everything(t, r, err); out != "first\n" {
		t.Errorf("%q is up to there", out)
	}
	endOf(t, w)
	r, err = w.Reader(both)
	if out, _ := everything(t, r, err); out != "first\nsecond\n" {
		t.Errorf("%q is recorded", out)
	}
}

func TestAFollowerIsOfTheRunThatGoesOnWhateverWaitsToBeWritten(t *testing.T) {
	size := uint64(1 << 20)
	w := open(t, t.TempDir(), Settings{BufferSize: &size})
	release, begun := make(chan struct{}), make(chan struct{}, 1000)
	w.backlog.write = func(stream Stream, at time.Time, data []byte) error {
		begun <- struct{}{}
		<-release
		return w.write(stream, at, data)
	}
	write(t, w, entry{Stdout, 1, "first\n"})
	<-begun
	w.EndRun()
	between := reader(t, w, following)
	w.BeginRun()
	second := reader(t, w, following)
	write(t, w, entry{Stdout, 2, "second\n"})
	close(release)
	w.backlog.flush()
	if got := read(t, between, 100); got != "first\n" {
		t.Errorf("who came after the first run got %q", got)
	}
	if got := read(t, second, len("first\nsecond\n")); got != "first\nsecond\n" {
		t.Errorf("who followed the second run got %q", got)
	}
	w.EndRun()
	if got := read(t, second, 1); got != "" {
		t.Errorf("who followed the second run got %q after it", got)
	}
}
