package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/moby/buildkit/session"
	"golang.org/x/sync/semaphore"
)

// removals are containers being removed in the background: BuildKit releases a build's resources under a lock that all
// builds need, so nothing may wait for a backend there.
type removals struct {
	mu sync.Mutex
	// Pending removals by container.
	underWay map[string]*removal
}

// removal is one removal, with the sessions of the builds that used the container; `gone` is closed at its end.
type removal struct {
	builds []string
	gone   chan struct{}
}

// removeBehind removes a container in the background, once even if several steps of a build used it.
func (w *Worker) removeBehind(builds []string, container string) {
	w.removals.behind(builds, container, w.backend.RemoveContainer)
}

// removeLeft removes the containers of an earlier builder in the background, maxLeftRemovals at a time: whoever starts
// this one kills it if it does not serve soon. Until one is removed, its command may still use a cache volume that a step
// of this builder locks: the former builder's locks ended with it.
func (w *Worker) removeLeft(ctx context.Context) error {
	left, err := w.backend.LeftContainers(ctx)
	free := semaphore.NewWeighted(maxLeftRemovals)
	for _, each := range left {
		w.removals.behind(nil, each, func(ctx context.Context, container string) error {
			if err := free.Acquire(ctx, 1); err != nil {
				return err
			}
			defer free.Release(1)
			return w.backend.RemoveContainer(ctx, container)
		})
	}
	return err
}

// maxLeftRemovals bounds how many containers of an earlier builder are removed at once.
const maxLeftRemovals = 16

// behind removes a container in the background, and tries until it is removed.
func (r *removals) behind(builds []string, container string, remove func(ctx context.Context, container string) error) {
	if !r.begin(builds, container) {
		return
	}
	go func() {
		err := remove(context.Background(), container)
		r.end(container) // Nobody waits for further tries.
		for pause := minRemovalPause; err != nil; pause = min(2*pause, maxRemovalPause) {
			Warn("remove a build's container, tried again in "+pause.String(), err)
			time.Sleep(pause)
			err = remove(context.Background(), container)
		}
	}()
}

// minRemovalPause and maxRemovalPause bound the pause before another try of a removal that failed.
const (
	minRemovalPause = time.Second
	maxRemovalPause = 10 * time.Minute
)

// WaitForRemovals waits until the released containers of a build, identified by its session, are removed, or ctx ends.
func (w *Worker) WaitForRemovals(ctx context.Context, session string) {
	w.removals.wait(ctx, func(builds []string) bool { return slices.Contains(builds, session) })
}

// removalPatience is how long a prune, or a start, waits for containers of ended builds, which keep their states in use.
const removalPatience = 10 * time.Second

// waitForAll waits, at most removalPatience, for all removals pending now.
func (r *removals) waitForAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, removalPatience)
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

// begin reports whether this is the container's first pending removal.
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
	gone := r.underWay[container].gone
	delete(r.underWay, container)
	close(gone)
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

// SessionsOf returns the builds of a group by their clients' sessions; "" is a build without a session.
func SessionsOf(group session.Group) []string {
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

// ForBuilds marks a context with the builds for which containers read files, or the web is asked.
func ForBuilds(ctx context.Context, group session.Group) context.Context {
	return context.WithValue(ctx, buildsOfContext{}, SessionsOf(group))
}
