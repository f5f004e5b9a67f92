// Package children reaps the processes of an agent. An agent is a child
// subreaper (or PID 1): beside the processes that it starts itself it inherits
// those whose parents have exited, a container's init and its execs among
// them, so one loop waits for all of them and hands out the statuses.
//
// While a Reaper runs, nothing else in the process may wait for a child: not
// exec.Cmd.Wait, not os.Process.Wait.
package children

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Reaper waits for every child of this process.
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Child
	// Exits of unknown children. Recorded only while an adoption is expected:
	// otherwise such a child is an orphan that nobody needs.
	orphans   map[int]exit
	adoptions int

	signals chan os.Signal
	stopped chan struct{}
}

type exit struct {
	status unix.WaitStatus
	at     time.Time
}

// Start starts reaping; Stop ends it.
func Start() *Reaper {
	r := &Reaper{
		children: make(map[int]*Child),
		orphans:  make(map[int]exit),
		signals:  make(chan os.Signal, 1),
		stopped:  make(chan struct{}),
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.run()
	return r
}

// Stop ends the loop. Children still alive are never reported.
func (r *Reaper) Stop() {
	signal.Stop(r.signals)
	close(r.signals)
	<-r.stopped
}

func (r *Reaper) run() {
	defer close(r.stopped)
	r.reapAll() // a child may have ended before the signal was caught
	for range r.signals {
		r.reapAll()
	}
}

// reapAll collects every child that has ended: one SIGCHLD may stand for many.
func (r *Reaper) reapAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if !status.Exited() && !status.Signaled() {
			continue // a stop: only for a tracer
		}
		ended := exit{status: status, at: time.Now()}
		if child, known := r.children[pid]; known {
			delete(r.children, pid)
			child.finish(ended)
		} else if r.adoptions > 0 {
			r.orphans[pid] = ended
		}
	}
}

// WithoutReaping calls f while reaping pauses, so that f may wait for a child's
// stops. f must leave exits to the reaper (WNOWAIT).
func (r *Reaper) WithoutReaping(f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f()
}

// Spawn starts a program. Files are inherited as by os.StartProcess.
func (r *Reaper) Spawn(path string, argv []string, attr *os.ProcAttr) (*Child, error) {
	// Held across the fork, so that the child cannot be reaped before it is known.
	r.mu.Lock()
	defer r.mu.Unlock()
	process, err := os.StartProcess(path, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	child := newChild(process.Pid)
	r.children[process.Pid] = child
	if err := process.Release(); err != nil {
		return nil, fmt.Errorf("release %s: %w", path, err)
	}
	return child, nil
}

// ExpectAdoption announces a child whose PID is not known yet, so that its status
// is kept even if it ends before Adopt. The returned function revokes the
// announcement.
func (r *Reaper) ExpectAdoption() (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adoptions++
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.adoptions--; r.adoptions == 0 {
			clear(r.orphans)
		}
	})
}

// Adopt takes charge of a child that another process started. It is called
// between ExpectAdoption and its end. An error means that the process is not a
// child of this one: its status will never arrive.
func (r *Reaper) Adopt(pid int) (*Child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if child, known := r.children[pid]; known {
		return child, nil
	}
	ended, gone := r.orphans[pid]
	delete(r.orphans, pid)
	// If it lives, a status kept under its number is that of an earlier process.
	err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil && !gone {
		return nil, fmt.Errorf("adopt process %d: %w", pid, err)
	}
	child := newChild(pid)
	if err != nil {
		child.finish(ended)
	} else {
		r.children[pid] = child
	}
	return child, nil
}
