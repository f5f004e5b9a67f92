// Command apiclient uses the API of the Docker daemon at a socket, and times
// that. It reads requests from standard input, each a line of JSON and the bytes
// of a body behind it, and answers each with a line of JSON on standard output.
// It ends with its standard input, whatever is under way.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "apiclient:", err)
		os.Exit(1)
	}
}

func start(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: apiclient SOCKET")
	}
	return serve(newClient(args[0]), os.Stdin, os.Stdout)
}

// request is some work; test/bench/measuring-client.ts tells each kind's fields.
type request struct {
	Work      string          `json:"work"`
	Create    json.RawMessage `json:"create"`    // a container's configuration
	Container string          `json:"container"` // one that runs
	Cmd       []string        `json:"cmd"`
	Parallel  int             `json:"parallel"` // execs at once
	Bytes     int64           `json:"bytes"`    // sent, or the least that must come back
	Method    string          `json:"method"`
	Path      string          `json:"path"`     // behind the API's version
	Progress  bool            `json:"progress"` // the answer tells of errors at its end
	BodyType  string          `json:"bodyType"`
	BodyBytes int             `json:"bodyBytes"` // behind the line

	body []byte
}

// answer has one of both.
type answer struct {
	Value *float64 `json:"value,omitempty"` // milliseconds
	Error string   `json:"error,omitempty"`
}

// serve does one work after the other until the input ends.
func serve(c *client, input io.Reader, output io.Writer) error {
	requests := make(chan request)
	defer close(requests)
	go func() {
		answers := json.NewEncoder(output)
		for r := range requests {
			_ = answers.Encode(c.answer(r)) // whoever asked is gone, and the input ends
		}
	}()
	lines := bufio.NewReader(input)
	for {
		r, err := read(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		requests <- r
	}
}

func read(lines *bufio.Reader) (request, error) {
	var r request
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, err
	}
	r.body = make([]byte, r.BodyBytes)
	_, err = io.ReadFull(lines, r.body)
	return r, err
}

func (c *client) answer(r request) answer {
	do, known := works[r.Work]
	if !known {
		return answer{Error: "there is no work " + r.Work}
	}
	took, err := do(c, r)
	if err != nil {
		return answer{Error: err.Error()}
	}
	milliseconds := float64(took) / float64(time.Millisecond)
	return answer{Value: &milliseconds}
}
