package containers

// WritableLayer is the directory of a container's changes, whether or not it
// exists.
func (c *Containers) WritableLayer(id string) (string, error) {
	paths, err := c.paths(id)
	return paths.Upper(), err
}
