package worker

import (
	"context"
	"time"

	"github.com/moby/buildkit/session"
	"golang.org/x/sync/semaphore"
)

// clients are the clients of builds under way, by the builds' sessions: one client may name any number of these.
type clients struct{ RefCounted[string] }

// enter makes a session a client's until the returned function is called; of several clients the first one's. Builds without
// a session are nobody's.
func (c *clients) enter(session, client string) (leave func()) {
	if session == "" {
		return func() {}
	}
	_, leave = c.Acquire(session, client)
	return leave
}

// named returns the clients of sessions; one that is no client's stands for itself.
func (c *clients) named(sessions []string) []string {
	if c == nil {
		return sessions
	}
	all := make([]string, len(sessions))
	for at, each := range sessions {
		all[at] = each
		if name, isClients := c.Value(each); isClients {
			all[at] = name
		}
	}
	return all
}

// slots bound what each client's builds, identified by their session, do at once. Clients do not wait for one another.
type slots struct {
	size int64
	// The sessions' clients; nil: each session is its own.
	clients *clients
	RefCounted[*semaphore.Weighted]
}

// take waits for a slot of a session, and returns a function that gives it back.
func (s *slots) take(ctx context.Context, session string) (func(), error) {
	free, leave := s.Acquire(session, semaphore.NewWeighted(s.size))
	if err := free.Acquire(ctx, 1); err != nil {
		leave()
		return nil, context.Cause(ctx)
	}
	return giving(free, leave), nil
}

// tryTake is take without a wait; nil: none is free.
func (s *slots) tryTake(session string) func() {
	free, leave := s.Acquire(session, semaphore.NewWeighted(s.size))
	if !free.TryAcquire(1) {
		leave()
		return nil
	}
	return giving(free, leave)
}

func giving(free *semaphore.Weighted, leave func()) func() {
	return func() {
		free.Release(1)
		leave()
	}
}

// sharedPoll is how often who waits for a slot looks whose work it is by now.
const sharedPoll = time.Second

// takeOf is take for any session of a group, so work that several clients share needs a slot of one of them only.
func (s *slots) takeOf(ctx context.Context, group session.Group) (func(), error) {
	for {
		sessions := s.clients.named(SessionsOf(group))
		for _, each := range sessions {
			if leave := s.tryTake(each); leave != nil {
				return leave, nil
			}
		}
		waiting, cancel := context.WithTimeout(ctx, sharedPoll)
		leave, err := s.take(waiting, sessions[0])
		cancel()
		if err == nil {
			return leave, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}
