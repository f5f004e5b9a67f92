// Package userpaths looks at paths that users name, such as the sources of binds
// and devices. They may be on a file system that does not answer, for instance
// of a server that is away: a look takes a limited time, and nothing else waits
// for it.
package userpaths

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

const (
	// answerLimit is how long a file system has to answer.
	answerLimit = 10 * time.Second
	// mostStuck bounds the looks, each of which holds a thread while it is stuck.
	mostStuck = 1000
	// mostFiles bounds the files that are looked at for one request: a /dev has
	// some hundreds.
	mostFiles = 10_000
)

var errTooManyFiles = fmt.Errorf("more than %d files", mostFiles)

// Looks looks at paths.
type Looks struct {
	limit time.Duration
	room  chan struct{}
}

// New creates Looks.
func New() *Looks {
	return &Looks{limit: answerLimit, room: make(chan struct{}, mostStuck)}
}

// Do runs what looks at a path, or makes it. If the file system does not answer
// in time, Do fails with DEADLINE_EXCEEDED and leaves it to itself.
func (l *Looks) Do(ctx context.Context, path string, look func() error) error {
	late := connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("the file system of %s does not answer", path))
	ctx, cancel := context.WithTimeoutCause(ctx, l.limit, late)
	defer cancel()
	select {
	case l.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-l.room }()
		done <- look()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
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
	realPath, err := filepath.EvalSymlinks(path)
	if err != nil {
		return &hostv1.FoundPath{Failure: reasonOf(err), Missing: errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)}
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
