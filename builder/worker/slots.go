package worker

import (
	"context"
	"sync"
	"time"

	"github.com/moby/buildkit/session"
	"golang.org/x/sync/semaphore"
)

// clients are the clients of builds under way, by the builds' sessions: one client may name any number of these.
type clients struct {
	mu    sync.Mutex
	named map[string]*clientOf
}

type clientOf struct {
	name   string
	builds int
}

// enter makes a session a client's until the returned function is called; of several clients the first one's. Builds without
// a session are nobody's.
func (c *clients) enter(session, client string) (leave func()) {
	if session == "" {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.named[session]
	if known == nil {
		if c.named == nil {
			c.named = map[string]*clientOf{}
		}
		known = &clientOf{name: client}
		c.named[session] = known
	}
	known.builds++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if known.builds--; known.builds == 0 {
			delete(c.named, session)
		}
	}
}

// of returns the clients of sessions; one that is no client's stands for itself.
func (c *clients) of(sessions []string) []string {
	if c == nil {
		return sessions
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]string, len(sessions))
	for at, each := range sessions {
		all[at] = each
		if known := c.named[each]; known != nil {
			all[at] = known.name
		}
	}
	return all
}

// slots bound what each client's builds, identified by their session, do at once. Clients do not wait for one another.
type slots struct {
	size int64
	// The sessions' clients; nil: each session is its own.
	clients *clients

	mu sync.Mutex
	of map[string]*slotsOf
}

// slotsOf are a session's slots, with the number of those who have or want one.
type slotsOf struct {
	free  *semaphore.Weighted
	users int
}

// take waits for a slot of a session, and returns a function that gives it back.
func (s *slots) take(ctx context.Context, session string) (func(), error) {
	own := s.enter(session)
	if err := own.free.Acquire(ctx, 1); err != nil {
		s.leave(session)
		return nil, context.Cause(ctx)
	}
	return s.giving(own, session), nil
}

// tryTake is take without a wait; nil: none is free.
func (s *slots) tryTake(session string) func() {
	own := s.enter(session)
	if !own.free.TryAcquire(1) {
		s.leave(session)
		return nil
	}
	return s.giving(own, session)
}

func (s *slots) giving(own *slotsOf, session string) func() {
	return func() {
		own.free.Release(1)
		s.leave(session)
	}
}

// sharedPoll is how often who waits for a slot looks whose work it is by now.
const sharedPoll = time.Second

// takeOf is take for any session of a group, so work that several clients share needs a slot of one of them only.
func (s *slots) takeOf(ctx context.Context, group session.Group) (func(), error) {
	for {
		sessions := s.clients.of(SessionsOf(group))
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

func (s *slots) enter(session string) *slotsOf {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.of[session]
	if own == nil {
		if s.of == nil {
			s.of = map[string]*slotsOf{}
		}
		own = &slotsOf{free: semaphore.NewWeighted(s.size)}
		s.of[session] = own
	}
	own.users++
	return own
}

func (s *slots) leave(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[session].users--
	if s.of[session].users == 0 {
		delete(s.of, session)
	}
}
