package worker

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/moby/buildkit/solver"
	"google.golang.org/protobuf/proto"
)

// stages are the containers of steps that were committed, each of which may run the step that follows: where a container
// is a task it is slow to begin. No build gets another's.
type stages struct {
	mu      sync.Mutex
	waiting map[stage]string
}

// stage is what a step and the next one have in common.
type stage struct {
	build, state, settings string
}

// stageOf answers the stage that a step ends, or the next one begins, with a state; not ok: the step has a container of
// its own, as it has mounts or secrets, or nobody knows its build.
func (s *step) stageOf(state string) (_ stage, ok bool) {
	if !s.worker.continuesRuns || len(s.op.Mounts) > 1 || len(s.op.Secretenv) > 0 || s.host.ReadonlyRootfs || state == "" {
		return stage{}, false
	}
	build := buildOf(s.job)
	settings, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.host)
	return stage{build, state, s.config.Hostname + "/" + string(settings)}, build != "" && err == nil
}

// buildOf tells builds apart by their clients' sessions.
func buildOf(job solver.JobContext) string {
	group := job.Session()
	if group == nil {
		return ""
	}
	sessions := group.SessionIterator()
	if sessions == nil {
		return ""
	}
	return sessions.NextSession()
}

// continued runs the step in the container that the stage's last one has left. Where there is none, or its files are gone by
// now, the step begins in another.
func (s *step) continued(ctx context.Context) (id string, ok bool) {
	at, ok := s.stageOf(s.root.id)
	if !ok {
		return "", false
	}
	if id, ok = s.worker.stages.take(at); !ok {
		return "", false
	}
	if s.worker.backend.ContinueContainer(ctx, id, s.root.id, s.config) == nil {
		return id, true
	}
	tell("remove the container of an earlier step", s.worker.backend.RemoveContainer(context.WithoutCancel(ctx), id))
	return "", false
}

// leave keeps the step's container for the next one, until the build ends.
func (s *step) leave(state, container string) bool {
	at, ok := s.stageOf(state)
	if !ok {
		return false
	}
	all, client := &s.worker.stages, s.worker.backend
	all.leave(at, container)
	err := s.job.Cleanup(func() error {
		all.drop(container)
		return client.RemoveContainer(context.Background(), container)
	})
	if err != nil {
		all.drop(container)
	}
	return err == nil
}

func tell(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "sockerless-builder: %s: %s\n", what, err)
	}
}

// leave keeps a container for the next step of its stage.
func (s *stages) leave(at stage, container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[stage]string{}
	}
	s.waiting[at] = container
}

// take answers the container that waits at a stage, which is the caller's then.
func (s *stages) take(at stage) (container string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	container, ok = s.waiting[at]
	delete(s.waiting, at)
	return container, ok
}

// drop forgets a container that is to be removed.
func (s *stages) drop(container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, each := range s.waiting {
		if each == container {
			delete(s.waiting, at)
		}
	}
}
