package worker

import (
	"context"
	"slices"
	"sync"

	"github.com/moby/buildkit/util/bklog"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// mostWaiting bounds the containers that wait for a next step, of each build.
const mostWaiting = 16

// stages are the containers of committed steps, each of which may run the following step: a container that is a cloud
// task starts slowly. Builds do not share them.
type stages struct {
	mu      sync.Mutex
	waiting []waiting
}

// stage identifies steps that can share a container.
type stage struct {
	build, settings string
}

// waiting is a container left by a step, with its state.
type waiting struct {
	container string
	at        stage
	state     record
}

// stage returns the step's stage; not ok: the step needs its own container, because it has mounts or its build is
// unknown. Secrets and other files given with a start are removed with their step.
func (s *step) stage() (_ stage, ok bool) {
	if len(s.host.Mounts)+len(s.host.Tmpfs) > 0 || s.host.ReadonlyRootfs {
		return stage{}, false
	}
	build := SessionsOf(s.job.Session())[0]
	settings, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.host)
	return stage{build, s.config.Hostname + "/" + string(settings)}, build != "" && err == nil
}

// continued runs the step in a container left by an earlier step of its stage; changes made in between, such as by
// COPY, are added to it. Without one, or if its files are gone, the step gets another container.
func (s *step) continued(ctx context.Context) (id string, ok bool) {
	at, ok := s.stage()
	if !ok {
		return "", false
	}
	left, ok := s.worker.stages.take(at, s.root.diffIDs)
	if !ok {
		return "", false
	}
	if s.worker.backend.ContinueContainer(ctx, left.container, left.state.ID, s.root.id, s.config, s.secrets) == nil {
		return left.container, true
	}
	s.worker.removeBehind(SessionsOf(s.job.Session()), left.container)
	return "", false
}

// leave keeps the step's container for the next step, until the build ends.
func (s *step) leave(state record, container string) bool {
	at, ok := s.stage()
	if !ok {
		return false
	}
	all, builds := &s.worker.stages, SessionsOf(s.job.Session())
	if surplus := all.leave(waiting{container, at, state}); surplus != "" {
		s.worker.removeBehind(builds, surplus)
	}
	err := s.job.Cleanup(func() error {
		all.drop(container)
		s.worker.removeBehind(builds, container)
		return nil
	})
	if err != nil {
		all.drop(container)
	}
	return err == nil
}

// Warn logs a failure that nobody waits for; nil is ignored.
func Warn(what string, err error) {
	if err != nil {
		bklog.L.WithError(err).Warn(what)
	}
}

// leave keeps a container for the next step of its stage. It returns its build's longest-waiting one if there are too
// many.
func (s *stages) leave(left waiting) (surplus string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, left)
	count := 0
	for _, each := range slices.Backward(s.waiting) {
		if each.at.build != left.at.build {
			continue
		}
		if count++; count > mostWaiting {
			surplus = each.container
		}
	}
	s.forget(surplus)
	return surplus
}

// take returns, and hands over, the container of a stage whose layers match the most of these, and contain no others.
func (s *stages) take(at stage, layers []digest.Digest) (best waiting, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, each := range s.waiting {
		has := each.state.DiffIDs
		stands := len(has) <= len(layers) && slices.Equal(has, layers[:len(has)])
		if each.at == at && stands && (!ok || len(has) > len(best.state.DiffIDs)) {
			best, ok = each, true
		}
	}
	s.forget(best.container)
	return best, ok
}

// drop forgets a container that will be removed.
func (s *stages) drop(container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(container)
}

func (s *stages) forget(container string) {
	s.waiting = slices.DeleteFunc(s.waiting, func(each waiting) bool { return each.container == container })
}
