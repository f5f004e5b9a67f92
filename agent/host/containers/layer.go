package containers

// WritableLayer is the directory of what a container has changed, whether it
// exists or not.
func (c *Containers) WritableLayer(id string) (string, error) {
	paths, err := c.paths(id)
	return paths.Upper(), err
}
