package layers

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/confined"
)

// A layer is usable as soon as it is unpacked; waiting for the disk would cost
// seconds on a busy one. Until the file system has been synced behind the
// answer, and the marker file "durable" says so, a crash of the machine may
// leave the layer's files empty. So a layer without the marker that was unpacked
// before the machine booted is deleted: it is unpacked again, not believed.
const durableName = "durable"

// gathering is how long the flusher waits for layers that come with another: a
// sync is for all, and keeps others from the disk.
const gathering = time.Second

// flusher syncs the file system for all layers that were published since it
// last did, one sync at a time.
type flusher struct {
	dir     string
	pending chan string // directories of layers
	closing chan struct{}
	idle    chan struct{}
}

func startFlusher(dir string) *flusher {
	f := &flusher{dir: dir, pending: make(chan string, 256), closing: make(chan struct{}), idle: make(chan struct{})}
	go f.run()
	return f
}

// farewell is how long close waits for the disk.
const farewell = time.Second

// close lets the sync at hand finish, for a moment: what is not synced now is
// when the next process opens the layers.
func (f *flusher) close() {
	close(f.closing)
	select {
	case <-f.idle:
	case <-time.After(farewell):
	}
}

// add has a layer synced, unless the flusher is closed.
func (f *flusher) add(layer string) {
	select {
	case f.pending <- layer:
	case <-f.closing:
	}
}

func (f *flusher) run() {
	defer close(f.idle)
	for {
		var batch []string
		select {
		case layer := <-f.pending:
			batch = append(batch, layer)
			select {
			case <-time.After(gathering):
			case <-f.closing:
			}
		case <-f.closing:
		}
		for len(f.pending) > 0 {
			batch = append(batch, <-f.pending)
		}
		if len(batch) == 0 {
			return // closed, and nothing is left
		}
		if err := f.flush(batch); err != nil {
			slog.Error("layers may not survive a crash of the machine", "layers", len(batch), "error", err)
		}
	}
}

func (f *flusher) flush(batch []string) error {
	if err := syncFileSystem(f.dir); err != nil {
		return err
	}
	var failures []error
	for _, layer := range batch {
		err := os.WriteFile(filepath.Join(layer, durableName), nil, 0o600)
		if !errors.Is(err, os.ErrNotExist) { // removed meanwhile
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func syncFileSystem(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := unix.Syncfs(int(handle.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// bootID changes with every boot of the machine.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot ID: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// reviewDurability deletes the layer if it may be damaged, and says whether it
// still needs syncing.
func reviewDurability(dir, boot string) (unsynced bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, durableName)); err == nil {
		return false, nil
	}
	if layer, err := readLayer(dir); err == nil && layer.BootID == boot {
		return true, nil
	}
	return false, confined.RemovePath(dir)
}
