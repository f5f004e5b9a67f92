// Package userpaths looks at paths that users name, such as the sources of binds
// and devices. They may be on a file system that does not answer, for instance
// of a server that is away: a look takes a limited time, and nothing else waits
// for it.
package userpaths

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

const (
	// answerLimit is how long a file system has to answer.
	answerLimit = 10 * time.Second
	// slowAfter is how long a look lasts before it counts as one that is stuck in
	// its file system.
	slowAfter = 100 * time.Millisecond
	// mostUncounted bounds the looks that have not lasted so long.
	mostUncounted = 64
	// mostOfOne bounds the others at one file system, each of which holds a thread
	// while it is stuck.
	mostOfOne = 16
	// mostLinks bounds the links that are followed; the kernel follows 40.
	mostLinks = 40
	// mostFiles bounds the files that are looked at for one request: a /dev has
	// some hundreds.
	mostFiles = 10_000
)

var errTooManyFiles = fmt.Errorf("more than %d files", mostFiles)

// Looks looks at paths.
type Looks struct {
	limit  time.Duration
	room   chan struct{} // has an element for each uncounted look
	mounts mountPoints

	mu      sync.Mutex         // also of each look
	slow    map[string]int     // looks that are counted, by mount point
	waiting map[string][]*look // in the order in which they came, by mount point
}

// look is a look at a path. It has room, is counted at a mount point, or waits for
// its turn.
type look struct {
	began   time.Time
	timer   *time.Timer   // ends its being uncounted
	at      string        // the part of the path that is looked at now
	moved   string        // where it is counted whatever it looks at; empty: at the part's mount point
	hasRoom bool          // it is uncounted
	mount   string        // where it is counted; empty: nowhere
	turn    chan struct{} // closed once it is counted where it has waited
}

// New creates Looks.
func New() *Looks {
	return &Looks{
		limit: answerLimit, room: make(chan struct{}, mostUncounted), mounts: mountPoints{list: listMountPoints},
		slow: map[string]int{}, waiting: map[string][]*look{},
	}
}

// Do runs what looks at a path, or makes it. If the file system does not answer
// in time, Do fails with DEADLINE_EXCEEDED and leaves it to itself.
func (l *Looks) Do(ctx context.Context, path string, run func() error) error {
	return l.DoAndMove(ctx, path, func(func(to string) error) error { return run() })
}

// DoAndMove is Do for what may go on to file systems that the path does not lead
// to. It calls move before it does: from then on it is counted among those that
// have moved to the same, and no longer at a file system of the machine.
func (l *Looks) DoAndMove(ctx context.Context, path string, run func(move func(to string) error) error) error {
	late := connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("the file system of %s does not answer", path))
	ctx, cancel := context.WithTimeoutCause(ctx, l.limit, late)
	defer cancel()
	select {
	case l.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	own := l.begin()
	done := make(chan error, 1)
	go func() {
		defer l.end(own)
		err := l.walk(ctx, own, path)
		if err == nil {
			err = run(func(to string) error { return l.move(ctx, own, to) })
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Looks) begin() *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := &look{began: time.Now(), at: "/", hasRoom: true}
	own.timer = time.AfterFunc(slowAfter, func() { l.slowDown(own) })
	return own
}

func (l *Looks) end(own *look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own.timer.Stop()
	l.leaveRoom(own)
	l.leave(own)
}

// walk follows a path and its links, with each part known before it is touched:
// one of them may lead to a file system that does not answer.
func (l *Looks) walk(ctx context.Context, own *look, path string) error {
	if len(path) >= unix.PathMax {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a path of %d bytes: %w", len(path), unix.ENAMETOOLONG))
	}
	at, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 && links <= mostLinks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		if next == at {
			continue
		}
		if err := l.reach(ctx, own, next); err != nil {
			return err
		}
		target, err := os.Readlink(next)
		if errors.Is(err, unix.EINVAL) { // no link
			at = next
			continue
		}
		if err != nil {
			return nil // whoever runs next reports it
		}
		links++
		rest = append(strings.Split(target, "/"), rest...)
		if filepath.IsAbs(target) {
			at = "/"
		}
	}
	return nil
}

func (l *Looks) move(ctx context.Context, own *look, to string) error {
	l.mu.Lock()
	own.moved = to
	l.mu.Unlock()
	return l.reach(ctx, own, own.at)
}

// reach waits until there is room for a look at a part of its path.
func (l *Looks) reach(ctx context.Context, own *look, at string) error {
	if l.passUncounted(own, at) {
		return nil
	}
	points, _, err := l.mounts.latest()
	if err != nil {
		return err
	}
	mount := own.place(points, at)
	turn := l.pass(own, at, mount)
	if turn == nil {
		return nil
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		l.giveUp(own, mount)
		return context.Cause(ctx)
	}
}

// passUncounted begins with a part if no look at all is slow: then nobody needs to
// know its file system.
func (l *Looks) passUncounted(own *look, at string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.slow) == 0 {
		own.at = at
	}
	return len(l.slow) == 0
}

// pass begins with a part. If its file system has no room, it returns what is
// closed once it is the look's turn.
func (l *Looks) pass(own *look, at, mount string) (turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own.at = at
	if own.mount == mount {
		return nil
	}
	l.leave(own)
	isFull := l.slow[mount] >= mostOfOne
	if !isFull && own.hasRoom {
		return nil
	}
	l.leaveRoom(own)
	if !isFull {
		l.count(own, mount)
		return nil
	}
	own.turn = make(chan struct{})
	l.waiting[mount] = append(l.waiting[mount], own)
	return own.turn
}

func (l *Looks) giveUp(own *look, mount string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[mount] = slices.DeleteFunc(l.waiting[mount], func(other *look) bool { return other == own })
	if len(l.waiting[mount]) == 0 {
		delete(l.waiting, mount)
	}
}

// slowDown counts a look that has lasted. It waits for a list of mount points that
// has the one where the look may be stuck.
func (l *Looks) slowDown(own *look) {
	points, read, err := l.mounts.latest()
	if err != nil {
		slog.Error("looks at users' paths are not counted", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !own.hasRoom: // it has ended, or waited
	case err != nil || read.Before(own.began):
		own.timer.Reset(mountPointsAge)
	default:
		l.leaveRoom(own)
		l.count(own, own.place(points, own.at))
	}
}

// place is where a look at a path is counted.
func (own *look) place(points map[string]bool, at string) string {
	return cmp.Or(own.moved, mountOf(points, at))
}

func (l *Looks) leaveRoom(own *look) {
	if own.hasRoom {
		own.hasRoom = false
		<-l.room
	}
}

func (l *Looks) count(own *look, mount string) {
	own.mount = mount
	l.slow[mount]++
}

// leave ends the count of a look; then the first that waits is next.
func (l *Looks) leave(own *look) {
	mount := own.mount
	if mount == "" {
		return
	}
	own.mount = ""
	if l.slow[mount]--; l.slow[mount] == 0 {
		delete(l.slow, mount)
	}
	if waiting := l.waiting[mount]; len(waiting) > 0 && l.slow[mount] < mostOfOne {
		next := waiting[0]
		if l.waiting[mount] = waiting[1:]; len(waiting) == 1 {
			delete(l.waiting, mount)
		}
		l.count(next, mount)
		close(next.turn)
	}
}

// At looks at a request's paths.
func (l *Looks) At(ctx context.Context, request *hostv1.LookUpPathsRequest) (*hostv1.LookUpPathsResponse, error) {
	response := &hostv1.LookUpPathsResponse{}
	for _, path := range request.Paths {
		var found *hostv1.FoundPath
		if err := l.Do(ctx, path, func() error { found = lookAt(path); return nil }); err != nil {
			return nil, err
		}
		response.Paths = append(response.Paths, found)
	}
	search := search{left: mostFiles}
	for _, path := range request.Devices {
		var found *hostv1.FoundDevices
		if err := l.Do(ctx, path, func() error { found = search.at(path); return nil }); err != nil {
			return nil, err
		}
		response.Devices = append(response.Devices, found)
	}
	if request.MachineDevices {
		found := search.machine()
		if found.Failure != "" {
			return nil, fmt.Errorf("the machine's devices: %s", found.Failure)
		}
		response.MachineDevices = found.Nodes
	}
	return response, nil
}

func lookAt(path string) *hostv1.FoundPath {
	if _, err := os.Stat(path); err != nil {
		return &hostv1.FoundPath{Failure: reasonOf(err), Missing: errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)}
	}
	realPath, err := filepath.EvalSymlinks(path)
	if err != nil {
		realPath = path // a link in /proc may lead to what has no path
	}
	return &hostv1.FoundPath{RealPath: realPath}
}

// reasonOf leaves out the call and the path, which the caller names.
func reasonOf(err error) string {
	if failure := new(fs.PathError); errors.As(err, &failure) {
		return failure.Err.Error()
	}
	return err.Error()
}

// search looks for devices.
type search struct{ left int } // files that may still be looked at

func (s *search) spend() error {
	if s.left == 0 {
		return errTooManyFiles
	}
	s.left--
	return nil
}

func (s *search) at(path string) *hostv1.FoundDevices {
	if err := s.spend(); err != nil {
		return &hostv1.FoundDevices{Failure: err.Error()}
	}
	info, err := os.Stat(path)
	if err != nil {
		return &hostv1.FoundDevices{Failure: reasonOf(err)}
	}
	if info.IsDir() {
		return s.below(path, nil)
	}
	return &hostv1.FoundDevices{Nodes: nodes("", info)}
}

// ownOfContainers are directories of /dev without devices of the machine, or that
// each container has its own of; as in dockerd.
var ownOfContainers = map[string]bool{
	"pts": true, "shm": true, "fd": true, "mqueue": true, ".lxc": true, ".lxd-mounts": true, ".udev": true,
}

func (s *search) machine() *hostv1.FoundDevices {
	found := s.below("/dev", ownOfContainers)
	found.Nodes = slices.DeleteFunc(found.Nodes, func(node *hostv1.DeviceNode) bool {
		return filepath.Base(node.Path) == "console"
	})
	return found
}

// below finds the devices in a directory, but for directories of the skipped
// names, links, and what vanishes meanwhile.
func (s *search) below(directory string, skipped map[string]bool) *hostv1.FoundDevices {
	found := &hostv1.FoundDevices{}
	directory = filepath.Clean(directory)
	root := directory + "/" // so that a link is followed
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if path == root {
			return err
		}
		if err == nil {
			err = s.spend()
		}
		if err == nil && entry.IsDir() && skipped[entry.Name()] {
			return fs.SkipDir
		}
		var info fs.FileInfo
		if err == nil && entry.Type()&fs.ModeDevice != 0 {
			info, err = entry.Info()
		}
		if err != nil {
			return unlessGone(err)
		}
		if info != nil {
			found.Nodes = append(found.Nodes, nodes(strings.TrimPrefix(strings.TrimPrefix(path, directory), "/"), info)...)
		}
		return nil
	})
	if err != nil {
		return &hostv1.FoundDevices{Failure: reasonOf(err)}
	}
	return found
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// nodes returns the device that a file is, if it is one.
func nodes(path string, info os.FileInfo) []*hostv1.DeviceNode {
	stat, isStat := info.Sys().(*syscall.Stat_t)
	if !isStat || info.Mode()&fs.ModeDevice == 0 {
		return nil
	}
	kind := "b"
	if info.Mode()&fs.ModeCharDevice != 0 {
		kind = "c"
	}
	return []*hostv1.DeviceNode{{
		Path: path, Type: kind, Major: unix.Major(stat.Rdev), Minor: unix.Minor(stat.Rdev),
		Mode: stat.Mode & 0o7777, Uid: stat.Uid, Gid: stat.Gid,
	}}
}
