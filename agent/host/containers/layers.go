package containers

import (
	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
)

// Layers returns the layers of a stopped container's file system. Errors as in
// Files.
func (c *Containers) Layers(id string) (archive.Layers, error) {
	paths, err := c.paths(id)
	if err != nil {
		return archive.Layers{}, err
	}
	if err := c.requireStored(id, paths); err != nil {
		return archive.Layers{}, err
	}
	var record rootRecord
	if _, err := jsonfile.Read(rootRecordPath(paths), &record); err != nil {
		return archive.Layers{}, err
	}
	stack, err := c.stackToRead(paths, record.Layers)
	return archive.Layers{Upper: paths.Upper(), Lower: stack.Lower}, err
}
