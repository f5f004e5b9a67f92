package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/session"
)

// removals are containers that are removed behind those who have done with them: BuildKit lets go of what builds had
// beneath a lock that all builds need, where nothing may wait for a backend.
type removals struct {
	mu sync.Mutex
	// Those under way by their containers.
	underWay map[string]*removal
}

// removal is one, with the sessions of the builds that had the container; `gone` is closed at its end.
type removal struct {
	builds []string
	gone   chan struct{}
}

// removeBehind removes a container of builds while they go on; once, where several steps of a build had it.
func (w *Worker) removeBehind(builds []string, container string) {
	if !w.removals.begin(builds, container) {
		return
	}
	go func() {
		Warn("remove the container of a step", w.backend.RemoveContainer(context.Background(), container))
		w.removals.end(container)
	}()
}

// WaitForRemovals waits until the containers have gone that a build, which its session names, has let go of; no longer than
// somebody waits for the build.
func (w *Worker) WaitForRemovals(ctx context.Context, session string) {
	w.removals.wait(ctx, func(builds []string) bool { return slices.Contains(builds, session) })
}

// prunePatience is how long a prune waits for containers of builds that have ended: a state stays while one has it.
const prunePatience = 10 * time.Second

// waitForAll waits for those of all builds that are under way now, for a while.
func (r *removals) waitForAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, prunePatience)
	defer cancel()
	r.wait(ctx, func([]string) bool { return true })
}

func (r *removals) wait(ctx context.Context, isWanted func(builds []string) bool) {
	for _, gone := range r.of(isWanted) {
		select {
		case <-gone:
		case <-ctx.Done():
			return
		}
	}
}

// begin reports whether the removal is the first of its container that is under way.
func (r *removals) begin(builds []string, container string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.underWay[container]; ok {
		at.builds = append(at.builds, builds...)
		return false
	}
	if r.underWay == nil {
		r.underWay = map[string]*removal{}
	}
	r.underWay[container] = &removal{slices.Clone(builds), make(chan struct{})}
	return true
}

func (r *removals) end(container string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.underWay[container].gone)
	delete(r.underWay, container)
}

func (r *removals) of(isWanted func(builds []string) bool) (wanted []chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, each := range r.underWay {
		if isWanted(each.builds) {
			wanted = append(wanted, each.gone)
		}
	}
	return wanted
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
