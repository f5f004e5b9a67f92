package containerinit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/server"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	// agentDirectory is where a platform mounts the agent, or an image has it.
	agentDirectory = "/.sockerless"
	// inventoryFiles bounds the memory of the image's inventory (about 70 MB).
	// Only the platform's patience with a start limits its time.
	inventoryFiles = 1_000_000
)

// stock is the inventory of the root file system as the image had it: an agent
// that sees no layers finds the container's changes by it. It is taken while the
// agent waits for its first call, and nothing changes a file before it is
// complete.
type stock struct {
	ready chan struct{}
	err   error // why there is none

	mu      sync.Mutex
	files   archive.Live
	secrets *secretFiles // of the run, whose paths are in files.Bounds
}

// beginInventory takes the inventory in the background.
func beginInventory(settings *settings, own *powers, logger *slog.Logger) *stock {
	s := &stock{ready: make(chan struct{})}
	if !own.pidOne {
		s.err = errNotPIDOne
		close(s.ready)
		return s
	}
	go func() {
		defer close(s.ready)
		begun := time.Now()
		s.files, s.err = takeInventory(settings, inventoryFiles)
		if s.err != nil {
			logger.Warn("what the container changes will not be known", "error", s.err)
			return
		}
		logger.Debug("the image's files are known", "count", s.files.Before.Files(), "took", time.Since(begun))
	}()
	return s
}

// takeInventory lists the container's root, with at most limit files.
func takeInventory(settings *settings, limit int) (archive.Live, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return archive.Live{}, fmt.Errorf("find the mounts: %w", err)
	}
	files := archive.Live{Bounds: archive.Bounds{
		Mounts: archive.MountsOf(mounts),
		Hidden: map[string]bool{agentDirectory: true, settings.logDir: true},
	}}
	if binary, err := os.Readlink(ownBinary); err == nil {
		files.Bounds.Hidden[binary] = true
	}
	if files.Root, err = os.Open("/"); err != nil {
		return archive.Live{}, fmt.Errorf("open the container's root: %w", err)
	}
	files.Before, err = archive.TakeInventory(context.Background(), files.Root, files.Bounds, limit)
	if err != nil {
		return archive.Live{}, errors.Join(err, files.Root.Close())
	}
	return files, nil
}

// wait waits until files may be changed.
func (s *stock) wait(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var _ server.Diffable = (*container)(nil)

// FileSystem compares the container's files with the image's. UNIMPLEMENTED: the
// agent is not PID 1 and cannot know them; FAILED_PRECONDITION: the image has too
// many files; INTERNAL: they could not be listed.
func (c *container) FileSystem(ctx context.Context) (server.FileSystem, error) {
	if err := c.stock.wait(ctx); err != nil {
		return nil, err
	}
	if c.stock.err != nil {
		return nil, connect.NewError(unknownChangesCode(c.stock.err), fmt.Errorf("what the container changed is not known: %w", c.stock.err))
	}
	c.stock.mu.Lock()
	defer c.stock.mu.Unlock()
	return c.stock.files, nil
}

var _ server.Layered = (*container)(nil)

// Bounds lists what in the root is not the container's own. Errors are those of
// FileSystem.
func (c *container) Bounds(ctx context.Context) (archive.Bounds, error) {
	if _, err := c.FileSystem(ctx); err != nil {
		return archive.Bounds{}, err
	}
	c.stock.mu.Lock()
	defer c.stock.mu.Unlock()
	bounds := c.stock.files.Bounds
	if secrets := c.stock.secrets; secrets != nil && secrets.isRemoved() {
		// A layer put there belongs to the container, although changes do not
		// include it yet.
		bounds.Mounts = maps.Clone(bounds.Mounts)
		for _, name := range secrets.paths {
			delete(bounds.Mounts, name)
		}
	}
	return bounds, nil
}

func unknownChangesCode(err error) connect.Code {
	switch {
	case errors.Is(err, errNotPIDOne):
		return connect.CodeUnimplemented
	case errors.Is(err, archive.ErrTooMany):
		return connect.CodeFailedPrecondition
	}
	return connect.CodeInternal
}

// takeAnew takes the inventory again, so that later changes are relative to the
// current files. Nothing of the container runs.
func (s *stock) takeAnew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.secrets != nil {
		s.setMounts(nil, s.secrets.paths)
		s.secrets = nil
	}
	before, err := archive.TakeInventory(context.Background(), s.files.Root, s.files.Bounds, inventoryFiles)
	if err != nil {
		return err
	}
	s.files.Before = before
	return nil
}

// addVolumes creates the directories of volumes that are not mounts, as a runtime
// does for mounts. Their contents are left out of changes and exports, like those
// of mounts.
func (s *stock) addVolumes(directories []string) error {
	if len(directories) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, directory := range directories {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return fmt.Errorf("make the directory of a volume: %w", err)
		}
	}
	s.setMounts(directories, nil)
	return nil
}

// setMounts changes which paths count as mounts.
func (s *stock) setMounts(added, removed []string) {
	mounts := maps.Clone(s.files.Bounds.Mounts) // others read the one there was
	if mounts == nil {
		mounts = map[string]bool{}
	}
	for _, name := range removed {
		delete(mounts, name)
	}
	for _, name := range added {
		mounts[name] = true
	}
	s.files.Bounds.Mounts = mounts
}

// addSecrets writes the secrets of a run, which changes and exports omit until
// the inventory is taken anew.
func (s *stock) addSecrets(secrets []*agentv1.SecretFile) error {
	if len(secrets) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	placed, err := placeSecrets(secrets, s.files.Bounds.Touches)
	if err != nil {
		return err
	}
	if s.secrets != nil {
		placed.paths = append(placed.paths, s.secrets.paths...)
	}
	s.secrets = placed
	s.setMounts(placed.paths, nil)
	return nil
}

// removeSecrets removes the files of addSecrets, once nothing of the run is left.
func (s *stock) removeSecrets() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets == nil {
		return nil
	}
	return s.secrets.remove()
}

// socketAt is a socket of the last run; nil: it has none at this path.
func (s *stock) socketAt(path string) *runSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets == nil {
		return nil
	}
	return s.secrets.sockets[path]
}

// Files opens the container's root.
func (c *container) Files(ctx context.Context, _ bool) (*os.File, error) {
	if err := c.stock.wait(ctx); err != nil {
		return nil, err
	}
	return openRoot()
}
