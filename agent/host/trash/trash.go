// Package trash deletes directory trees in the background: a large one takes
// seconds.
package trash

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/sockerless/sockerless/agent/host/confined"
)

// Can is a directory whose content is being deleted, even across restarts.
type Can struct {
	dir     string
	wake    chan struct{}
	done    chan struct{}
	closing chan struct{}
}

// Open starts deleting what an earlier process left in dir.
func Open(dir string) (*Can, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	can := &Can{dir: dir, wake: make(chan struct{}, 1), done: make(chan struct{}), closing: make(chan struct{})}
	can.wake <- struct{}{}
	go can.run()
	return can, nil
}

// Discard makes path disappear at once; it must be on the can's file system. A
// missing path is not an error.
func (c *Can) Discard(path string) error {
	// A fresh name instead of a new directory: run would delete an empty one.
	err := os.Rename(path, filepath.Join(c.dir, rand.Text()))
	if _, missing := os.Lstat(path); errors.Is(err, os.ErrNotExist) && errors.Is(missing, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("discard %s: %w", path, err)
	}
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

// farewell is how long Close waits.
const farewell = time.Second

// Close stops deleting. It waits briefly for the current tree; the next process
// deletes the rest. It is called once.
func (c *Can) Close() {
	close(c.closing)
	select {
	case <-c.done:
	case <-time.After(farewell):
	}
}

func (c *Can) run() {
	defer close(c.done)
	for {
		select {
		case <-c.wake:
			c.empty()
		case <-c.closing:
			return
		}
	}
}

func (c *Can) empty() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		slog.Error("cannot read the trash", "error", err)
		return
	}
	for _, entry := range entries {
		select {
		case <-c.closing:
			return
		default:
		}
		if err := confined.RemovePath(filepath.Join(c.dir, entry.Name())); err != nil {
			slog.Error("cannot delete", "path", entry.Name(), "error", err)
		}
	}
}
