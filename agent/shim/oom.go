package shim

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// oomCounter counts the OOM kills of a container's memory cgroup. Its files
// outlive the processes, until the runtime deletes the container.
type oomCounter struct {
	file string // empty: the container has no memory cgroup
	v1   bool

	mu     sync.Mutex
	last   uint64
	report func() // called whenever the count grows; may be nil
}

const (
	// killDelay bounds the wait for the kill after its announcement; a container
	// may also recover without one.
	killDelay = time.Second
	killPoll  = 10 * time.Millisecond
)

// findOOMCounter finds the counter of a process's cgroup.
func findOOMCounter(pid int) *oomCounter {
	file, err := os.Open(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return &oomCounter{}
	}
	defer file.Close()
	counter := &oomCounter{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// hierarchy:controllers:path
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var candidate oomCounter
		switch {
		case strings.Contains(","+parts[1]+",", ",memory,"):
			candidate = oomCounter{file: filepath.Join(cgroupMount, "memory", parts[2], "memory.oom_control"), v1: true}
		case parts[1] == "":
			candidate = oomCounter{file: filepath.Join(cgroupMount, parts[2], "memory.events")}
		default:
			continue
		}
		if _, err := os.Stat(candidate.file); err == nil {
			counter = &oomCounter{file: candidate.file, v1: candidate.v1}
		}
	}
	return counter
}

// kills is the current count; it reports growth that has not been reported yet.
// Once the cgroup is gone the count stays.
func (c *oomCounter) kills() uint64 {
	c.mu.Lock()
	before := c.last
	c.read()
	now, report := c.last, c.report
	c.mu.Unlock()
	if now > before && report != nil {
		report()
	}
	return now
}

// read updates the count. c.mu is held.
func (c *oomCounter) read() {
	content, err := os.ReadFile(c.file)
	if err != nil {
		return
	}
	for line := range bytes.Lines(content) {
		value, found := bytes.CutPrefix(line, []byte("oom_kill "))
		if !found {
			continue
		}
		if count, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64); err == nil {
			c.last = count
		}
	}
}

// watch calls report whenever the count grows, until the cgroup is gone.
func (c *oomCounter) watch(report func()) error {
	if c.file == "" {
		return nil
	}
	open := openEvents
	if c.v1 {
		open = openEventsV1
	}
	events, err := open(c.file)
	if err != nil {
		return fmt.Errorf("watch for want of memory: %w", err)
	}
	c.mu.Lock()
	c.report = report
	c.mu.Unlock()
	go func() {
		defer events.Close()
		for buffer := make([]byte, 4096); ; {
			if _, err := events.Read(buffer); err != nil {
				return
			}
			if !c.awaitKill() {
				return
			}
		}
	}()
	return nil
}

// awaitKill reports the kill that an event announces: cgroup v1 sends the event
// before the kill. If the OOM killer is disabled, it reports the shortage itself.
// It returns false once the cgroup is gone.
func (c *oomCounter) awaitKill() bool {
	c.mu.Lock()
	before, report := c.last, c.report
	c.mu.Unlock()
	if c.oomKillDisabled() {
		report()
		return true
	}
	for deadline := time.Now().Add(killDelay); c.kills() == before && time.Now().Before(deadline); {
		if _, err := os.Stat(c.file); err != nil {
			return false
		}
		time.Sleep(killPoll)
	}
	return true
}

// oomKillDisabled reports whether processes short of memory only wait, as
// `--oom-kill-disable` asks for. Only cgroup v1 has this.
func (c *oomCounter) oomKillDisabled() bool {
	content, err := os.ReadFile(c.file)
	return err == nil && c.v1 && bytes.Contains(content, []byte("oom_kill_disable 1\n")) && bytes.Contains(content, []byte("under_oom 1\n"))
}

// openEventsV1 returns a file that becomes readable when the kernel reports an
// OOM condition, or the cgroup's removal (kernel: cgroup-v1/memory.rst).
func openEventsV1(name string) (*os.File, error) {
	control, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "oom events")
	registration := fmt.Sprintf("%d %d", fd, control.Fd())
	if err := os.WriteFile(filepath.Join(filepath.Dir(name), "cgroup.event_control"), []byte(registration), 0); err != nil {
		events.Close()
		return nil, err
	}
	return events, nil
}

// openEvents returns a file that becomes readable when memory.events changes.
func openEvents(name string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "oom events")
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY|unix.IN_DELETE_SELF); err != nil {
		events.Close()
		return nil, err
	}
	return events, nil
}
