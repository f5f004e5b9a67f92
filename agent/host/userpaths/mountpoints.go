package userpaths

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
)

// mountPointsAge is how long a list of mount points is used: reading thousands
// takes tens of milliseconds.
const mountPointsAge = time.Second

// mountPoints are the machine's mount points.
type mountPoints struct {
	list func() (map[string]bool, error)

	mu     sync.Mutex
	points map[string]bool
	read   time.Time // when it was begun to read them
	until  time.Time // when they are to be read again
}

// latest returns the list, which is not to be changed, and the time from when on
// it may lack new mount points.
func (m *mountPoints) latest() (points map[string]bool, read time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if began := time.Now(); !began.Before(m.until) {
		points, err := m.list()
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("the machine's mounts: %w", err)
		}
		m.points, m.read, m.until = points, began, time.Now().Add(mountPointsAge)
	}
	return m.points, m.read, nil
}

func listMountPoints() (map[string]bool, error) {
	points := map[string]bool{}
	_, err := mountinfo.GetMounts(func(mount *mountinfo.Info) (skip, stop bool) {
		points[mount.Mountpoint] = true
		return true, false
	})
	return points, err
}

// mountOf finds the mount point of an absolute path without "." and ".." without
// asking the file system.
func mountOf(points map[string]bool, path string) string {
	for path != "/" && !points[path] {
		path = path[:max(strings.LastIndexByte(path, '/'), len("/"))]
	}
	return path
}
