package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// execConfiguration is the body of a request for an exec.
type execConfiguration struct {
	Cmd          []string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	Tty          bool
}

func (c *client) createdExec(container string, configuration execConfiguration) (string, error) {
	body, err := json.Marshal(configuration)
	if err != nil {
		return "", err
	}
	return c.created("/containers/"+container+"/exec", body)
}

// timeExecs times execs that begin at the same time, from the first to the last.
func (c *client) timeExecs(r request) (time.Duration, error) {
	return timed(func() error {
		ends := make(chan error)
		for range r.Parallel {
			go func() { ends <- c.exec(r.Container, r.Cmd, r.Bytes) }()
		}
		var failure error
		for range r.Parallel {
			failure = errors.Join(failure, <-ends)
		}
		return failure
	})
}

// exec runs a command to its end, which must be a good one.
func (c *client) exec(container string, cmd []string, least int64) error {
	id, err := c.createdExec(container, execConfiguration{Cmd: cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return err
	}
	stream, err := c.hijack("/exec/"+id+"/start", "{}")
	if err != nil {
		return err
	}
	if err := drainAll(stream, least); err != nil {
		return err
	}
	text, err := c.call("GET", "/exec/"+id+"/json", nil)
	if err != nil {
		return err
	}
	var state struct{ ExitCode *int }
	if err := json.Unmarshal(text, &state); err != nil {
		return err
	}
	if state.ExitCode == nil || *state.ExitCode != 0 {
		return fmt.Errorf("the exec ended: %s", text)
	}
	return nil
}

// inputBlock is what input is sent in.
var inputBlock = bytes.Repeat([]byte("i"), 1<<20)

// timeExecStdin times an exec that is sent input and reads it to its end.
func (c *client) timeExecStdin(r request) (time.Duration, error) {
	return timed(func() error {
		id, err := c.createdExec(r.Container, execConfiguration{Cmd: r.Cmd, AttachStdin: true, AttachStdout: true})
		if err != nil {
			return err
		}
		stream, err := c.hijack("/exec/"+id+"/start", "{}")
		if err != nil {
			return err
		}
		sent := make(chan error, 1)
		go func() { sent <- sendInput(stream, r.Bytes) }()
		return errors.Join(drainAll(stream, 0), <-sent)
	})
}

func sendInput(stream connection, total int64) error {
	for left := total; left > 0; {
		n, err := stream.Write(inputBlock[:min(left, int64(len(inputBlock)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return stream.CloseWrite()
}
