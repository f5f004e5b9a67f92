package containers

import (
	"context"
	"errors"
	"os"

	"github.com/sockerless/sockerless/agent/host/jsonfile"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// isUnclaimed reports whether a host process of an earlier version prepared the
// container in advance, and nobody has created it.
func isUnclaimed(paths shimspec.ContainerPaths) bool {
	var record rootRecord
	_, err := jsonfile.Read(rootRecordPath(paths), &record)
	return err == nil && record.PreparedAhead
}

// endPrepared ends what a host process of an earlier version launched in advance:
// the container has not run. Files that nobody has claimed are removed too.
func (c *Containers) endPrepared(ctx context.Context, id string, paths shimspec.ContainerPaths, last *launched) error {
	if _, err := os.Lstat(paths.Run); err == nil {
		if err := c.release(ctx, id, paths, last, noNextGeneration); err != nil {
			return err
		}
	}
	// The shim records our kill as an exit.
	for _, name := range []string{paths.ExitRecord(), paths.Spec()} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if !isUnclaimed(paths) {
		return nil
	}
	return c.trash.Discard(paths.Dir)
}
