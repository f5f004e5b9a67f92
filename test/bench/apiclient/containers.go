package main

import (
	"fmt"
	"io"
	"time"
)

func (c *client) timeCreate(r request) (time.Duration, error) {
	var id string
	took, err := timed(func() (err error) {
		id, err = c.created("/containers/create", r.Create)
		return err
	})
	if err != nil {
		return 0, err
	}
	return took, c.remove(id)
}

func (c *client) timeRun(r request) (time.Duration, error) {
	return timed(func() error {
		id, err := c.created("/containers/create", r.Create)
		if err != nil {
			return err
		}
		if err := c.start(id); err != nil {
			return err
		}
		return c.waitAndRemove(id)
	})
}

// timeUnattachedRun times a container's run without its making and removal.
func (c *client) timeUnattachedRun(r request) (time.Duration, error) {
	id, err := c.created("/containers/create", r.Create)
	if err != nil {
		return 0, err
	}
	took, err := timed(func() error {
		if err := c.start(id); err != nil {
			return err
		}
		return c.wait(id)
	})
	if err != nil {
		return 0, err
	}
	return took, c.remove(id)
}

func (c *client) start(id string) error  { return c.act("POST", id, "/start") }
func (c *client) wait(id string) error   { return c.act("POST", id, "/wait") }
func (c *client) remove(id string) error { return c.act("DELETE", id, "") }

func (c *client) act(method, id, how string) error {
	_, err := c.call(method, "/containers/"+id+how, nil)
	return err
}

// timeAttachedRun times all of it, of a container that writes exactly so many
// bytes.
func (c *client) timeAttachedRun(r request) (time.Duration, error) {
	return timed(func() error {
		id, stream, err := c.createdAndAttached(r.Create, "stdout=1&stderr=1")
		if err != nil {
			return err
		}
		defer stream.Close()
		if err := c.start(id); err != nil {
			return err
		}
		total, err := drain(stream)
		if err == nil && total != r.Bytes {
			err = fmt.Errorf("%d bytes came back", total)
		}
		if err != nil {
			return err
		}
		stream.Close()
		return c.waitAndRemove(id)
	})
}

func (c *client) waitAndRemove(id string) error {
	if err := c.wait(id); err != nil {
		return err
	}
	return c.remove(id)
}

func (c *client) createdAndAttached(configuration []byte, streams string) (string, connection, error) {
	id, err := c.created("/containers/create", configuration)
	if err != nil {
		return "", connection{}, err
	}
	stream, err := c.hijack("/containers/"+id+"/attach?stream=1&"+streams, "{}")
	return id, stream, err
}

// timeAttachedOutput times the output of a container from its start to its end.
func (c *client) timeAttachedOutput(r request) (time.Duration, error) {
	id, stream, err := c.createdAndAttached(r.Create, "stdout=1&stderr=1")
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	took, err := timed(func() error {
		if err := c.start(id); err != nil {
			return err
		}
		return drainAll(stream, r.Bytes)
	})
	if err != nil {
		return 0, err
	}
	return took, c.waitAndRemove(id)
}

// timePromptedOutput times the output of a container that writes it when it has
// read a line.
func (c *client) timePromptedOutput(r request) (time.Duration, error) {
	id, stream, err := c.createdAndAttached(r.Create, "stdin=1&stdout=1&stderr=1")
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	if err := c.start(id); err != nil {
		return 0, err
	}
	took, err := timed(func() error {
		if _, err := io.WriteString(stream, "\n"); err != nil {
			return err
		}
		return drainAll(stream, r.Bytes)
	})
	if err != nil {
		return 0, err
	}
	return took, c.act("DELETE", id, "?force=1")
}

// timeAttach times an attachment to a container that echoes, until the first
// byte has come back.
func (c *client) timeAttach(r request) (time.Duration, error) {
	return timed(func() error {
		stream, err := c.hijack("/containers/"+r.Container+"/attach?stream=1&stdin=1&stdout=1", "{}")
		if err != nil {
			return err
		}
		defer stream.Close()
		if _, err := io.WriteString(stream, "k\n"); err != nil {
			return err
		}
		_, err = stream.reader.ReadByte()
		return err
	})
}
