package worker

import (
	"context"
	"sync"
	"time"

	"github.com/moby/buildkit/session"
	"golang.org/x/sync/semaphore"
)

// slots bound what each client's builds, identified by their session, do at once. Clients do not wait for one another.
type slots struct {
	size int64

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
		sessions := SessionsOf(group)
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
