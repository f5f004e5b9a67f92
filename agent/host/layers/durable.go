package layers

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/batch"
)

// A layer is usable as soon as it is unpacked; waiting for the disk would take
// seconds on a busy one. Until the file system has been synced in the background,
// and the marker file "durable" confirms it, a crash of the machine may leave the
// layer's files empty. So a layer without the marker from before the machine's
// boot is deleted and unpacked again.
const durableName = "durable"

const (
	// gathering is how long a layer waits for others: one sync serves all, and
	// blocks other users of the disk.
	gathering = time.Second
	// mostGathered bounds the waiting layers.
	mostGathered = 256
	// farewell is how long Close waits for the disk.
	farewell = time.Second
)

// newFlusher returns a queue that makes layers durable.
func newFlusher(store string) *batch.Queue {
	return batch.New(gathering, mostGathered, func(layers []string) {
		if err := flush(store, layers); err != nil {
			slog.Error("layers may not survive a crash of the machine", "layers", len(layers), "error", err)
		}
	})
}

func flush(store string, layers []string) error {
	if err := syncFileSystem(store); err != nil {
		return err
	}
	var failures []error
	for _, layer := range layers {
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

// durability is the state of a layer, or of a directory on top of layers, with regard
// to crashes of the machine.
type durability int

const (
	damaged  durability = iota // a crash may have damaged it
	unsynced                   // a crash would damage it
	durable
)

// durabilityOf checks the marker; without one it compares the boot ID in the
// directory's record.
func (s *Store) durabilityOf(dir, recordName string) durability {
	if _, err := os.Lstat(filepath.Join(dir, durableName)); err == nil {
		return durable
	}
	var record struct {
		BootID string `json:"boot_id"`
	}
	if content, err := os.ReadFile(filepath.Join(dir, recordName)); err != nil || json.Unmarshal(content, &record) != nil || record.BootID != s.boot {
		return damaged
	}
	return unsynced
}
