package backend_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend"
	"github.com/sockerless/sockerless/builder/backend/backendtest"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// speaking runs a container that echoes its input, and returns its output and how many containers were created.
func speaking(server *backendtest.Backend, client *backend.Client, cut func(procedure string, times int) bool) (said string, made int, err error) {
	var mu sync.Mutex
	times := map[string]int{}
	reached := func(moment string) func(string) {
		return func(procedure string) {
			mu.Lock()
			times[moment+procedure]++
			count := times[moment+procedure]
			mu.Unlock()
			if cut(moment+procedure, count) {
				panic(http.ErrAbortHandler)
			}
		}
	}
	server.Before, server.After = reached("before "), reached("after ")
	var out bytes.Buffer
	// The input is read in two pieces.
	stdio := backend.Stdio{Stdin: io.MultiReader(strings.NewReader("one "), strings.NewReader("two")), Stdout: &out, Stderr: &out}
	secrets := backend.Secrets{Env: []string{"A=1"}}
	_, err = client.RunAttached(context.Background(), &backendv1.ContainerConfig{}, nil, secrets, stdio, func() {}, func(id string) { _ = client.RemoveContainer(context.Background(), id) })
	mu.Lock()
	defer mu.Unlock()
	return out.String(), times["before CreateContainer"], err
}

func TestAnAttachedContainerThatWasNotHeardIsMadeAgain(t *testing.T) {
	for _, procedure := range []string{"before AttachContainer", "after AttachContainer", "before StartContainer", "before Session", "before SessionInput"} {
		server, client := backendtest.Start(t)
		said, made, err := speaking(server, client, func(reached string, times int) bool { return reached == procedure && times == 1 })
		if err != nil || said != "one two" || made != 2 {
			t.Errorf("cut %s, %d containers said %q: %v", procedure, made, said, err)
		}
		left := server.Containers()
		assert.Check(t, is.Len(left, 0), "cut %s, left", procedure)
	}
}

func TestAnAttachedContainerThatWasHeardIsNotMadeAgain(t *testing.T) {
	server, client := backendtest.Start(t)
	said, made, err := speaking(server, client, func(reached string, _ int) bool { return reached == "after SessionOutput" })
	if err == nil || !strings.Contains(err.Error(), "the backend went away while the container of a frontend ran, which is not repeated") || made != 1 || said != "one " {
		t.Errorf("%d containers said %q: %v", made, said, err)
	}
	assert.Check(t, is.Len(server.Containers(), 0))
}
