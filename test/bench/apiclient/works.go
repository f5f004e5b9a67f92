package main

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// works answer with the time that their measured part took.
var works = map[string]func(*client, request) (time.Duration, error){
	"call":            (*client).timeCall,
	"create":          (*client).timeCreate,
	"run":             (*client).timeRun,
	"attached run":    (*client).timeAttachedRun,
	"attached output": (*client).timeAttachedOutput,
	"prompted output": (*client).timePromptedOutput,
	"unattached run":  (*client).timeUnattachedRun,
	"attach":          (*client).timeAttach,
	"exec":            (*client).timeExecs,
	"exec stdin":      (*client).timeExecStdin,
	"echo":            (*client).timeEcho,
	"log follow":      (*client).timeLogFollow,
}

// timed answers with how long the work took.
func timed(work func() error) (time.Duration, error) {
	start := time.Now()
	err := work()
	return time.Since(start), err
}

func (c *client) timeCall(r request) (time.Duration, error) {
	var last tail
	took, err := timed(func() error {
		answer, err := c.begin(r)
		if err != nil {
			return err
		}
		if r.Progress {
			answer = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(answer, &last), answer}
		}
		return drainAll(answer, r.Bytes)
	})
	if err == nil && bytes.Contains(last, []byte(`"error"`)) {
		err = fmt.Errorf("%s %s: %s", r.Method, r.Path, last)
	}
	return took, err
}

// begin sends the request that a call is of.
func (c *client) begin(r request) (io.ReadCloser, error) {
	if r.BodyType == "" {
		return c.stream(r.Method, r.Path, r.body)
	}
	return c.upload(r.Method, r.Path, r.BodyType, r.body)
}

// tail is the last of what is written to it.
type tail []byte

const tailBytes = 1000

func (t *tail) Write(text []byte) (int, error) {
	*t = append(*t, text...)
	*t = (*t)[max(0, len(*t)-tailBytes):]
	return len(text), nil
}
