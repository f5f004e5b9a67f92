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
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/background"
	"github.com/sockerless/sockerless/agent/core/removal"
)

// mostAtOnce is how many trees are deleted at a time: a large one holds up no
// others.
const mostAtOnce = 4

// Can is a directory whose content is being deleted, even across restarts.
type Can struct {
	dir     string
	wake    chan struct{}
	done    chan struct{}
	closing chan struct{}
	turns   chan struct{} // mostAtOnce
	// deleting has the names of the trees that are being deleted.
	deleting sync.Map
}

// Open starts deleting what an earlier process left in dir.
func Open(dir string) (*Can, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	can := &Can{dir: dir, wake: make(chan struct{}, 1), done: make(chan struct{}), closing: make(chan struct{}), turns: make(chan struct{}, mostAtOnce)}
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

// Close stops deleting. It waits briefly for the current trees; the next process
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
			for range mostAtOnce { // the current ones
				c.turns <- struct{}{}
			}
			return
		}
	}
}

// empty begins to delete what is there.
func (c *Can) empty() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		slog.Error("cannot read the trash", "error", err)
		return
	}
	for _, entry := range entries {
		if _, begun := c.deleting.Load(entry.Name()); begun {
			continue
		}
		select {
		case <-c.closing:
			return
		case c.turns <- struct{}{}:
		}
		c.deleting.Store(entry.Name(), nil)
		background.Go(func() { c.remove(entry.Name()) })
	}
}

func (c *Can) remove(name string) {
	if err := removal.Path(filepath.Join(c.dir, name)); err != nil {
		slog.Error("cannot delete", "path", name, "error", err)
	}
	c.deleting.Delete(name)
	<-c.turns
}
