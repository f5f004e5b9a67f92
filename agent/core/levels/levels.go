// Package levels bounds the directories that walks of file trees hold open, all of
// a process together: a container chooses how deep its trees are, and a client how
// slowly they are read.
package levels

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Most bounds how deep a tree is followed: each level holds descriptors, and no
// deeper path fits the kernel's PATH_MAX.
const Most = 2048

// share is the part of the process' descriptors that all walks may hold.
const share = 4

// leastDescriptors are allowed however few the process may have.
const leastDescriptors = 64

// ErrNoRoom means that other walks hold too many directories open.
var ErrNoRoom = errors.New("too many directories are being read at once: try again later")

var held atomic.Int64

// Enter counts the descriptors of a directory that a walk opens at this depth, until
// leave is called.
func Enter(name string, depth, descriptors int) (leave func(), err error) {
	if depth > Most {
		return nil, fmt.Errorf("%s: more than %d directories deep", name, Most)
	}
	count := int64(descriptors)
	if held.Add(count) > mostHeld() {
		held.Add(-count)
		return nil, fmt.Errorf("%s: %w", name, ErrNoRoom)
	}
	return func() { held.Add(-count) }, nil
}

func mostHeld() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return leastDescriptors
	}
	return max(leastDescriptors, int64(min(limit.Cur, 1<<30))/share)
}
