// Package processes reads the descendants of a process from /proc, for an agent
// without a cgroup to list.
package processes

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

// TicksPerSecond is the unit of times: USER_HZ is 100 on every architecture
// that Go runs on.
const TicksPerSecond = 100

// Process is a process, from proc(5)'s /proc/PID/stat.
type Process struct {
	PID        int
	Parent     int
	Group      int
	Session    int
	Terminal   uint32 // device number; 0: none
	Foreground int    // the terminal's process group
	State      byte
	Command    string // of at most 15 bytes
	Ticks      uint64 // processor time, its own
	WaitedFor  uint64 // processor time of its children that have ended
	Nice       int
	Threads    int
	Start      uint64 // ticks after the machine's boot; distinguishes it from a later one with its PID
	Virtual    uint64 // bytes
	Resident   uint64 // bytes
}

// Stopped reports whether a signal or a tracer has stopped it.
func (p Process) Stopped() bool { return p.State == 'T' || p.State == 't' }

// Ended reports whether it only waits to be reaped.
func (p Process) Ended() bool { return p.State == 'Z' || p.State == 'X' }

// Descendants are the processes beneath one, parents before their children. Those
// that end meanwhile may be missing.
func Descendants(of int) ([]Process, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	children := map[int][]Process{}
	for _, p := range all {
		children[p.Parent] = append(children[p.Parent], p)
	}
	var found []Process
	for next := children[of]; len(next) > 0; {
		var below []Process
		for _, p := range next {
			below = append(below, children[p.PID]...)
		}
		found = append(found, next...)
		next = below
	}
	return found, nil
}

func list() ([]Process, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		p, err := Read(pid)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errEnded) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return all, nil
}

var errEnded = errors.New("the process has ended")

// Read reads one process, or returns os.ErrNotExist.
func Read(pid int) (Process, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrNotExist) {
			return Process{}, err
		}
		return Process{}, errEnded // ESRCH between open and read
	}
	return parseStat(content)
}

// parseStat parses /proc/PID/stat. The command is in parentheses and may hold
// anything, parentheses too.
func parseStat(content []byte) (Process, error) {
	open, shut := bytes.IndexByte(content, '('), bytes.LastIndexByte(content, ')')
	if open < 0 || shut < open {
		return Process{}, fmt.Errorf("not a process's state: %.60q", content)
	}
	fields := bytes.Fields(content[shut+1:])
	if len(fields) < 22 {
		return Process{}, fmt.Errorf("a process's state has only %d fields", len(fields))
	}
	var err error
	number := func(text []byte) int64 {
		value, failed := strconv.ParseInt(string(text), 10, 64)
		err = cmp.Or(err, failed)
		return value
	}
	// fields[0] is the third of proc(5).
	p := Process{
		PID: int(number(bytes.TrimSpace(content[:open]))), Command: string(content[open+1 : shut]), State: fields[0][0],
		Parent: int(number(fields[1])), Group: int(number(fields[2])), Session: int(number(fields[3])),
		Terminal: uint32(number(fields[4])), Foreground: int(number(fields[5])),
		Ticks:     uint64(number(fields[11]) + number(fields[12])),
		WaitedFor: uint64(number(fields[13]) + number(fields[14])),
		Nice:      int(number(fields[16])), Threads: int(number(fields[17])),
		Virtual: uint64(number(fields[20])), Resident: uint64(number(fields[21])) * uint64(os.Getpagesize()),
	}
	start, failed := strconv.ParseUint(string(fields[19]), 10, 64)
	if err = cmp.Or(err, failed); err != nil {
		return Process{}, fmt.Errorf("a process's state: %w", err)
	}
	p.Start = start
	return p, nil
}
