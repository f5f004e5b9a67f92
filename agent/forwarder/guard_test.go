package forwarder

import (
	"context"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// containerID is a full one.
var containerID = strings.Repeat("c0", idLength/2)

// scene is a request of this process that is looked after, and waits of it and of
// another process.
func scene(t *testing.T, of guard) (g *guards, own, others context.Context) {
	t.Helper()
	g = new(guards)
	fd, _ := ends(t)
	t.Cleanup(func() { g.end(1, false) })
	if !g.add(1, fd, &of, 1) || g.add(2, fd, &of, 1) {
		t.Fatal("there is room for one")
	}
	process := peerOf(fd)
	waiting := func(process int32) context.Context {
		ctx, end := context.WithCancelCause(t.Context())
		g.hold(process, containerID, end)
		return ctx
	}
	return g, waiting(process), waiting(process + 1)
}

func TestALossBreaksTheWaitsOfTheSameProcessForTheSameContainer(t *testing.T) {
	for name, lose := range map[string]func(*guards){
		"told":                    func(g *guards) { g.end(1, true) },
		"the frontend is gone":    func(g *guards) { g.leave() },
		"nobody took it":          func(g *guards) { g.begin(1, true); g.leave(); g.passed(1, false) },
		"an agent had refused it": func(g *guards) { g.begin(1, true); g.passed(1, false); g.leave() },
	} {
		t.Run(name, func(t *testing.T) {
			g, own, others := scene(t, guard{Container: "c0c0"})
			lose(g)
			if context.Cause(own) != errLost || others.Err() != nil {
				t.Fatal(context.Cause(own), others.Err())
			}
		})
	}
}

func TestARequestThatIsAnsweredOrAnAgentsBreaksNoWait(t *testing.T) {
	for name, settle := range map[string]func(*guards){
		"answered":           func(g *guards) { g.end(1, false); g.leave() },
		"an agent's":         func(g *guards) { g.begin(1, true); g.passed(1, true); g.leave() },
		"an agent's, later":  func(g *guards) { g.begin(1, true); g.leave(); g.passed(1, true) },
		"of another's":       func(g *guards) { g.requests[1].Container = "other"; g.leave() },
		"of no known client": func(g *guards) { g.requests[1].process = 0; g.leave() },
	} {
		t.Run(name, func(t *testing.T) {
			g, own, _ := scene(t, guard{Container: containerID})
			settle(g)
			if own.Err() != nil {
				t.Fatal(context.Cause(own))
			}
		})
	}
}

func TestAnEndWithoutAnErrorIsToldOnceWhatIsServedIsSettled(t *testing.T) {
	g, own, others := scene(t, guard{Container: "c0c0"})
	process := g.requests[1].process
	wait := func(ctx context.Context, process int32) <-chan struct{} {
		over := make(chan struct{})
		go func() {
			defer close(over)
			g.settled(ctx, &standing{process: process, name: containerID})
		}()
		return over
	}
	<-wait(own, process) // Its agent is not known.
	g.serve(1)
	<-wait(others, process+1)
	over := wait(own, process)
	select {
	case <-over:
		t.Fatal("it may still be lost")
	case <-time.After(50 * time.Millisecond):
	}
	g.end(1, false)
	<-over
	assert.NilError(t, own.Err())
}

func TestAWaitForWhatIsServedEndsWithTheLossOfThat(t *testing.T) {
	g, own, _ := scene(t, guard{Container: "c0c0", Served: true})
	process := g.requests[1].process
	time.AfterFunc(10*time.Millisecond, func() { g.end(1, true) })
	g.settled(own, &standing{process: process, name: containerID})
	assert.Equal(t, context.Cause(own), errLost)
}

func TestALostAttachmentBreaksTheNextWaitOnce(t *testing.T) {
	g := new(guards)
	fd, client := ends(t)
	of := guard{Container: containerID, Attached: true, Farewell: []byte("lost")}
	assert.Assert(t, g.add(1, fd, &of, 1), "no room")
	process := peerOf(fd)
	g.leave()
	told := make([]byte, 8)
	if n, _ := client.Read(told); string(told[:n]) != "lost" {
		t.Fatalf("%q", told[:n])
	}
	if n, err := client.Read(told); n != 0 || err == nil {
		t.Fatal("the connection stays open")
	}
	for _, want := range []error{errLost, nil} {
		ctx, end := context.WithCancelCause(t.Context())
		g.accepted(g.hold(process, "name", end), containerID)
		if got := context.Cause(ctx); got != want {
			t.Fatal(got)
		}
	}
}

func TestALossIsOfTheContainerThatIsNamed(t *testing.T) {
	for _, c := range []struct {
		wait, id, lost string
		breaks         bool
	}{
		{"job", "", "job", true},
		{"job", "", "job-2", false},
		{"job-2", "", "job", false},
		{"job", "", containerID, false},
		{"job", containerID, "job", true},
		{"job", containerID, containerID, true},
		{"job", containerID, "job-2", false},
		{containerID[:12], "", containerID, true},
		{containerID, containerID, containerID[:12], true},
	} {
		if got := (&standing{process: 1, name: c.wait, id: c.id}).dependsOn(1, c.lost); got != c.breaks {
			t.Errorf("a wait for %q (%q) when %q is lost: %t", c.wait, c.id, c.lost, got)
		}
	}
}
