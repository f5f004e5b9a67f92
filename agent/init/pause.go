package containerinit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/processes"
)

const (
	// freezeLimit bounds how long processes may keep starting others while they
	// are being stopped.
	freezeLimit = 10 * time.Second
	freezePoll  = time.Millisecond
)

// freezer stops the container's processes by SIGSTOP, since the platform gives no
// access to the cgroup freezer. Processes that were already stopped stay so when
// it thaws the others.
type freezer struct {
	stopped []stoppedProcess // in the order of their stops
}

type stoppedProcess struct {
	pid   int
	start uint64
}

// freeze returns once every process beneath the agent is stopped; one in
// uninterruptible sleep (for a disk, or in vfork for a stopped child) stops
// before it does anything else. Parents are stopped before their children, which
// they might see stop.
func (f *freezer) freeze() error {
	known := map[stoppedProcess]bool{} // true: stopped by us
	for deadline := time.Now().Add(freezeLimit); ; time.Sleep(freezePoll) {
		all, err := processes.Descendants(os.Getpid())
		if err != nil {
			return err
		}
		settled := true
		for _, p := range all {
			id := stoppedProcess{p.PID, p.Start}
			ours, seen := known[id]
			switch {
			case p.Ended(), ours && p.State == 'D':
				continue
			case p.Stopped():
				known[id] = ours
				continue
			}
			settled = false
			if err := unix.Kill(p.PID, unix.SIGSTOP); errors.Is(err, unix.ESRCH) {
				continue
			} else if err != nil {
				return fmt.Errorf("stop process %d: %w", p.PID, err)
			}
			if !ours || !seen {
				known[id] = true
				f.stopped = append(f.stopped, id)
			}
		}
		if settled {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes were still being started after %v", freezeLimit)
		}
	}
}

// thaw continues what freeze has stopped, children before their parents.
func (f *freezer) thaw() error {
	var errs []error
	for _, id := range slices.Backward(f.stopped) {
		if p, err := processes.Read(id.pid); err != nil || p.Start != id.start {
			continue // it has ended
		}
		if err := unix.Kill(id.pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("continue process %d: %w", id.pid, err))
		}
	}
	f.stopped = nil
	return errors.Join(errs...)
}

// errPaused refuses to start a process in a paused container.
var errPaused = errors.New("the container is paused")

// Pause stops every process of the container.
func (l *launcher) Pause(context.Context) error {
	l.spawning.Lock() // a process that is being made would not be among them
	defer l.spawning.Unlock()
	if err := l.freezer.freeze(); err != nil {
		return errors.Join(err, l.freezer.thaw())
	}
	l.paused = true
	return nil
}

// Resume continues them.
func (l *launcher) Resume(context.Context) error {
	l.spawning.Lock()
	defer l.spawning.Unlock()
	l.paused = false
	return l.freezer.thaw()
}

// forgetPause follows the end of a run, which none of its processes survives.
func (l *launcher) forgetPause() {
	l.spawning.Lock()
	defer l.spawning.Unlock()
	l.paused, l.freezer.stopped = false, nil
}
