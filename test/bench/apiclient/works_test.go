package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// daemon notes the requests that it answers.
type daemon struct {
	mu    sync.Mutex
	asked []string
}

func (d *daemon) notes(answers http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.asked = append(d.asked, r.Method+" "+strings.TrimPrefix(r.URL.Path, version))
		d.mu.Unlock()
		answers.ServeHTTP(w, r)
	})
}

func (d *daemon) wasAsked(t *testing.T, requests ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.asked, requests) {
		t.Fatalf("the requests are %q", d.asked)
	}
}

// container answers for one whose streams are the handler's.
func container(attach http.HandlerFunc) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /containers/create": func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); string(body) != `{"Image":"i"}` {
				http.Error(w, "no configuration", 400)
				return
			}
			made(w, r)
		},
		"POST /containers/c1/attach": attach,
		"POST /containers/c1/start":  says(""),
		"POST /containers/c1/wait":   says(`{"StatusCode":0}`),
		"DELETE /containers/c1":      says(""),
	}
}

var configured = request{Create: []byte(`{"Image":"i"}`), Bytes: 14}

const (
	toCreate = "POST /containers/create"
	toAttach = "POST /containers/c1/attach"
	toStart  = "POST /containers/c1/start"
	toWait   = "POST /containers/c1/wait"
	toRemove = "DELETE /containers/c1"
)

func TestContainersAreMadeRunAndRemoved(t *testing.T) {
	for work, asked := range map[string][]string{
		"create":          {toCreate, toRemove},
		"run":             {toCreate, toStart, toWait, toRemove},
		"unattached run":  {toCreate, toStart, toWait, toRemove},
		"attached run":    {toCreate, toAttach, toStart, toWait, toRemove},
		"attached output": {toCreate, toAttach, toStart, toWait, toRemove},
	} {
		t.Run(work, func(t *testing.T) {
			var d daemon
			c := clientOf(t, d.notes(answering(container(streams(t, strings.Repeat("x", 14), nil)))))
			took, err := works[work](c, configured)
			succeeds(t, took, err)
			d.wasAsked(t, asked...)
		})
	}
}

func TestOutputOfAnotherSizeIsAnError(t *testing.T) {
	for work, sizes := range map[string][]int{"attached run": {13, 15}, "attached output": {13}} {
		for _, size := range sizes {
			c := clientOf(t, answering(container(streams(t, strings.Repeat("x", size), nil))))
			_, err := works[work](c, configured)
			fails(t, err, fmt.Sprintf("%d bytes came back", size))
		}
	}
}

func TestPromptedOutputComesAfterItsPrompt(t *testing.T) {
	prompted := func(d *daemon, size int) *client {
		return clientOf(t, d.notes(answering(container(streams(t, "", func(client io.ReadWriter) {
			if line, err := bufio.NewReader(client).ReadString('\n'); err != nil {
				t.Error(line, err)
			}
			_, _ = io.WriteString(client, strings.Repeat("x", size))
		})))))
	}
	var d daemon
	took, err := prompted(&d, 14).timePromptedOutput(configured)
	succeeds(t, took, err)
	d.wasAsked(t, toCreate, toAttach, toStart, toRemove)
	_, err = prompted(&daemon{}, 13).timePromptedOutput(configured)
	fails(t, err, "13 bytes came back")
}

func TestAnAttachmentEndsWithTheFirstEcho(t *testing.T) {
	c := clientOf(t, answering(container(streams(t, "", func(client io.ReadWriter) {
		line, err := bufio.NewReader(client).ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(client, line)
		_, _ = io.Copy(io.Discard, client) // to the client's end
	}))))
	took, err := c.timeAttach(request{Container: "c1"})
	succeeds(t, took, err)
}

// execs answers for execs of a container whose streams are the handler's.
func execs(stream http.HandlerFunc, exitCode string) map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /containers/c1/exec": made,
		"POST /exec/c1/start":      stream,
		"GET /exec/c1/json":        says(`{"ExitCode":` + exitCode + `}`),
	}
}

func TestExecsRunAtOnce(t *testing.T) {
	var all sync.WaitGroup
	all.Add(32)
	c := clientOf(t, answering(execs(streams(t, "", func(io.ReadWriter) {
		all.Done()
		all.Wait() // for ever, were they one after the other
	}), "0")))
	took, err := c.timeExecs(request{Container: "c1", Cmd: []string{"true"}, Parallel: 32})
	succeeds(t, took, err)
}

func TestAnExecThatFailsIsAnError(t *testing.T) {
	r := request{Container: "c1", Cmd: []string{"false"}, Parallel: 2}
	for _, exitCode := range []string{"1", "null"} {
		_, err := clientOf(t, answering(execs(streams(t, "", nil), exitCode))).timeExecs(r)
		fails(t, err, `"ExitCode":`+exitCode)
	}
	r.Bytes = 100
	_, err := clientOf(t, answering(execs(streams(t, "short", nil), "0"))).timeExecs(r)
	fails(t, err, "5 bytes came back")
}

func TestInputIsSentWholeAndEnds(t *testing.T) {
	for _, size := range []int64{5<<20 + 1, 3 << 20} {
		totals := make(chan int64, 1)
		c := clientOf(t, answering(execs(streams(t, "", func(client io.ReadWriter) {
			total, _ := io.Copy(io.Discard, client)
			totals <- total
		}), "0")))
		took, err := c.timeExecStdin(request{Container: "c1", Cmd: []string{"dd"}, Bytes: size})
		succeeds(t, took, err)
		if total := <-totals; total != size {
			t.Fatalf("%d bytes of %d came", total, size)
		}
	}
}

func TestInputThatIsNotTakenIsAnError(t *testing.T) {
	c := clientOf(t, answering(execs(streams(t, "", nil), "0")))
	if _, err := c.timeExecStdin(request{Container: "c1", Cmd: []string{"dd"}, Bytes: 64 << 20}); err == nil {
		t.Fatal("nobody has read it")
	}
}

func TestKeysAreEchoedAndTheTerminalEnds(t *testing.T) {
	typed := make(chan string, 1)
	c := clientOf(t, answering(execs(streams(t, "", func(client io.ReadWriter) {
		var seen bytes.Buffer
		_, _ = io.Copy(io.MultiWriter(&seen, client), client)
		typed <- seen.String()
	}), "0")))
	took, err := c.timeEcho(request{Container: "c1", Cmd: []string{"cat"}})
	succeeds(t, took, err)
	if keys := <-typed; keys != strings.Repeat("k", trips)+"\n\x04" {
		t.Fatalf("the terminal had %q", keys)
	}
}

func TestLinesAreFollowedAndTheLogEnds(t *testing.T) {
	lines := make(chan string)
	handlers := container(streams(t, "", func(client io.ReadWriter) {
		defer close(lines)
		for input := bufio.NewScanner(client); input.Scan(); {
			lines <- input.Text()
		}
	}))
	handlers["GET /containers/c1/logs"] = func(w http.ResponseWriter, _ *http.Request) {
		followed := 0
		w.(http.Flusher).Flush()
		for line := range lines {
			followed++
			fmt.Fprint(w, "12345678", line, "\n")
			w.(http.Flusher).Flush()
		}
		if followed != trips {
			t.Errorf("%d lines came", followed)
		}
	}
	var d daemon
	took, err := clientOf(t, d.notes(answering(handlers))).timeLogFollow(configured)
	succeeds(t, took, err)
	d.wasAsked(t, toCreate, toAttach, toStart, "GET /containers/c1/logs", toWait, toRemove)
}

// counter counts what is written to it, and reads a byte at a time of the answers
// to that.
type counter struct{ asked, answered int }

func (c *counter) Write(question []byte) (int, error) {
	c.asked++
	return len(question), nil
}

const answerBytes = 5

func (c *counter) Read(into []byte) (int, error) {
	if c.asked != c.answered/answerBytes+1 {
		return 0, fmt.Errorf("%d questions are asked after %d bytes", c.asked, c.answered)
	}
	c.answered++
	return copy(into, "x"), nil
}

func TestEachTripEndsWithItsWholeAnswer(t *testing.T) {
	var c counter
	took, err := roundTrip(&c, "q", &c, answerBytes)
	succeeds(t, took, err)
	if c.answered != trips*answerBytes {
		t.Fatalf("%d bytes are read", c.answered)
	}
}
