package main

import (
	"io"
	"slices"
	"time"
)

// trips are the round trips of which the 90th percentile is told.
const trips = 300

// timeEcho times keys through a terminal with a command that reads it.
func (c *client) timeEcho(r request) (time.Duration, error) {
	id, err := c.createdExec(r.Container, execConfiguration{Cmd: r.Cmd, AttachStdin: true, AttachStdout: true, Tty: true})
	if err != nil {
		return 0, err
	}
	stream, err := c.hijack("/exec/"+id+"/start", `{"Tty":true}`)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	took, err := roundTrip(stream, "k", stream, 1)
	if err != nil {
		return 0, err
	}
	if _, err := io.WriteString(stream, "\n\x04"); err != nil {
		return 0, err
	}
	if err := stream.CloseWrite(); err != nil {
		return 0, err
	}
	return took, drainAll(stream, 0)
}

const (
	followedLine = "line\n"
	frameHeader  = 8 // bytes before each piece of output that has no terminal
)

// timeLogFollow times lines that a container reads and writes into its log,
// which is followed.
func (c *client) timeLogFollow(r request) (time.Duration, error) {
	id, stream, err := c.createdAndAttached(r.Create, "stdin=1")
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	if err := c.start(id); err != nil {
		return 0, err
	}
	log, err := c.stream("GET", "/containers/"+id+"/logs?follow=1&stdout=1", nil)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	took, err := roundTrip(stream, followedLine, log, frameHeader+len(followedLine))
	if err != nil {
		return 0, err
	}
	if err := stream.CloseWrite(); err != nil {
		return 0, err
	}
	if err := drainAll(log, 0); err != nil {
		return 0, err
	}
	return took, c.waitAndRemove(id)
}

// roundTrip answers with the 90th percentile of the times from a question to the
// last byte of what comes back for it.
func roundTrip(questions io.Writer, question string, answers io.Reader, answerBytes int) (time.Duration, error) {
	asked, answer := []byte(question), make([]byte, answerBytes)
	var times []time.Duration
	for range trips {
		took, err := timed(func() error {
			if _, err := questions.Write(asked); err != nil {
				return err
			}
			_, err := io.ReadFull(answers, answer)
			return err
		})
		if err != nil {
			return 0, err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	return times[len(times)*9/10], nil
}
