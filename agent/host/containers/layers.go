package containers

import "github.com/sockerless/sockerless/agent/core/archive"

// Layers returns the layers of a stopped container's file system. Errors as in
// Files.
func (c *Containers) Layers(id string) (archive.Layers, error) {
	paths, err := c.paths(id)
	if err != nil {
		return archive.Layers{}, err
	}
	record, err := c.readStored(id, paths)
	if err != nil {
		return archive.Layers{}, err
	}
	stack, err := c.stackToRead(paths, record.Layers)
	return archive.Layers{Upper: paths.Upper(), Lower: stack.Lower}, err
}

// WritableLayer is the directory of a container's changes, whether or not it
// exists.
func (c *Containers) WritableLayer(id string) (string, error) {
	paths, err := c.paths(id)
	return paths.Upper(), err
}
