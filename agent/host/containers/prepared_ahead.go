package containers

import (
	"context"
	"errors"
	"os"

	"github.com/sockerless/sockerless/agent/host/jsonfile"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// isNobodys reports whether a host process of an earlier version has prepared the
// container ahead, and nobody has created it.
func isNobodys(paths shimspec.ContainerPaths) bool {
	var record rootRecord
	_, err := jsonfile.Read(rootRecordPath(paths), &record)
	return err == nil && record.PreparedAhead
}

// endPrepared ends what a host process of an earlier version has launched ahead: the
// container has not run. Files that nobody has created go with it.
func (c *Containers) endPrepared(ctx context.Context, id string, paths shimspec.ContainerPaths, last *launched) error {
	if _, err := os.Lstat(paths.Run); err == nil {
		if err := c.release(ctx, id, paths, last, nothingFollows); err != nil {
			return err
		}
	}
	// The shim takes our kill for an end.
	for _, name := range []string{paths.ExitRecord(), paths.Spec()} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if !isNobodys(paths) {
		return nil
	}
	return c.trash.Discard(paths.Dir)
}
