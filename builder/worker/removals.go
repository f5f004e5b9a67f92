package worker

import (
	"context"
	"slices"
	"sync"

	"github.com/moby/buildkit/session"
)

// removals are containers that are removed behind those who have done with them: BuildKit lets go of what builds had
// beneath a lock that all builds need, where nothing may wait for a backend.
type removals struct {
	mu sync.Mutex
	// Those under way by the session of a build that had the container, each closed at its end.
	underWay map[string][]chan struct{}
}

// removeBehind removes a container of builds while they go on.
func (w *Worker) removeBehind(builds []string, container string) {
	gone := w.removals.begin(builds)
	go func() {
		tell("remove the container of a step", w.backend.RemoveContainer(context.Background(), container))
		w.removals.end(builds, gone)
	}()
}

// WaitForRemovals waits until the containers have gone that a build, which its session names, has let go of; no longer than
// somebody waits for the build.
func (w *Worker) WaitForRemovals(ctx context.Context, session string) {
	for _, gone := range w.removals.of(session) {
		select {
		case <-gone:
		case <-ctx.Done():
			return
		}
	}
}

func (r *removals) begin(builds []string) (gone chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.underWay == nil {
		r.underWay = map[string][]chan struct{}{}
	}
	gone = make(chan struct{})
	for _, build := range builds {
		r.underWay[build] = append(r.underWay[build], gone)
	}
	return gone
}

func (r *removals) end(builds []string, gone chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, build := range builds {
		r.underWay[build] = slices.DeleteFunc(r.underWay[build], func(each chan struct{}) bool { return each == gone })
		if len(r.underWay[build]) == 0 {
			delete(r.underWay, build)
		}
	}
	close(gone)
}

func (r *removals) of(build string) []chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.underWay[build])
}

// sessionsOf tells the builds, by their clients' sessions, that have something in common; "" is one without a session.
func sessionsOf(group session.Group) []string {
	var all []string
	if group != nil {
		for iterator := group.SessionIterator(); iterator != nil; {
			id := iterator.NextSession()
			if id == "" {
				break
			}
			all = append(all, id)
		}
	}
	if len(all) == 0 {
		return []string{""}
	}
	return all
}

type buildsOfContext struct{}

// forBuilds tells for whom containers are made to read files.
func forBuilds(ctx context.Context, group session.Group) context.Context {
	return context.WithValue(ctx, buildsOfContext{}, sessionsOf(group))
}
