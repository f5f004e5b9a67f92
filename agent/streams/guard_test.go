package streams

import (
	"context"
	"testing"
)

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
		g.hold(process, "container", end)
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
			g, own, others := scene(t, guard{Container: "cont"})
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
			g, own, _ := scene(t, guard{Container: "container"})
			settle(g)
			if own.Err() != nil {
				t.Fatal(context.Cause(own))
			}
		})
	}
}

func TestALostAttachmentBreaksTheNextWaitOnce(t *testing.T) {
	g := new(guards)
	fd, client := ends(t)
	of := guard{Container: "container", Attached: true, Farewell: []byte("lost")}
	if !g.add(1, fd, &of, 1) {
		t.Fatal("no room")
	}
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
		g.accepted(g.hold(process, "name", end), "container")
		if got := context.Cause(ctx); got != want {
			t.Fatal(got)
		}
	}
}
