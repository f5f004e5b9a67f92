package volumes

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// hardlyAny is the room, in bytes, below which a disk is told of once more.
const hardlyAny = 1 << 30

// WatchRoom tells of each held volume that may take more than its disk has, as
// HostService.WatchVolumes says, until ctx is done. It looks when a volume is
// mounted, and now and then while one is that may grow.
func (s *Store) WatchRoom(ctx context.Context, tell func(*hostv1.WatchVolumesResponse) error) error {
	watches := map[uint64]roomWatch{} // by the disk's device number
	failures := map[string]string{}
	for {
		mounted := s.nextMount()
		disks, err := s.disks(failures)
		if err != nil {
			return err
		}
		maps.DeleteFunc(watches, func(device uint64, _ roomWatch) bool { return disks[device] == nil })
		var later <-chan time.Time
		for device, disk := range disks {
			if watches[device] == nil {
				watches[device] = roomWatch{}
			}
			for _, name := range watches[device].look(disk.free, disk.growths) {
				if err := tell(&hostv1.WatchVolumesResponse{Name: name, Free: disk.free, Growth: disk.growths[name].bytes}); err != nil {
					return err
				}
			}
			later = time.After(s.roomPeriod)
		}
		select {
		case <-later:
		case <-mounted:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// nextMount is closed when a volume is mounted next.
func (s *Store) nextMount() <-chan struct{} {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	return s.mounted.Next()
}

// countMount is called before the volume is noted as held: a look sees it as it was, or as
// mounted anew.
func (s *Store) countMount(name string) {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	s.lastMount++
	s.mounts[name] = s.lastMount
}

// forgetMounts is called once a volume is no more: one of its name that is made later has
// other mounts.
func (s *Store) forgetMounts(name string) {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	delete(s.mounts, name)
}

// tellMounted wakes who waits for a volume to be mounted.
func (s *Store) tellMounted() {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	s.mounted.Notify()
}

// disk is a file system that held volumes lie on.
type disk struct {
	free    uint64            // bytes
	growths map[string]growth // by the volume's name
}

// growth is what a mounted volume may yet take.
type growth struct {
	bytes uint64
	mount uint64 // which of its mounts it is
}

// disks returns those of held volumes that may grow, by device number: a volume's
// directory may be a link to another disk. It logs what it cannot look at, unless
// that is among the failures, by name, that it keeps.
func (s *Store) disks(failures map[string]string) (map[uint64]*disk, error) {
	names, err := os.ReadDir(s.held)
	if err != nil {
		return nil, err
	}
	s.mounting.Lock()
	mounts := maps.Clone(s.mounts)
	s.mounting.Unlock()
	disks := map[uint64]*disk{}
	for _, entry := range names {
		v, d, err := s.find(entry.Name())
		growing, grows := d.(driver.Growing)
		if err != nil || !grows {
			continue // Its users are told of a damaged record.
		}
		bytes, err := growing.Growth(v)
		var device, free uint64
		if err == nil {
			device, free, err = roomAt(v.Dir)
		}
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			if failures[v.Name] != err.Error() {
				slog.Error("it is not known what room a volume may yet take", "volume", v.Name, "error", err)
			}
			failures[v.Name] = err.Error()
			continue
		}
		delete(failures, v.Name)
		if disks[device] == nil {
			disks[device] = &disk{growths: map[string]growth{}}
		}
		disks[device].free = free
		disks[device].growths[v.Name] = growth{bytes, mounts[v.Name]}
	}
	return disks, nil
}

// roomAt returns the bytes that are free where a directory lies.
func roomAt(directory string) (device, free uint64, err error) {
	var stat unix.Stat_t
	if err := unix.Stat(directory, &stat); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: directory, Err: err}
	}
	var room unix.Statfs_t
	if err := unix.Statfs(directory, &room); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: directory, Err: err}
	}
	return stat.Dev, room.Bavail * uint64(room.Bsize), nil
}

// shortage is how little room there is.
type shortage int

const (
	enough shortage = iota
	lessThanPromised
	hardly
)

func shortageOf(free, promised uint64) shortage {
	switch {
	case free >= promised:
		return enough
	case free >= hardlyAny:
		return lessThanPromised
	default:
		return hardly
	}
}

// roomWatch is what was told of one disk, by volume.
type roomWatch map[string]toldOf

type toldOf struct {
	mount    uint64
	shortage shortage
}

// look returns the volumes to tell of. A shortage is over once there is an eighth
// more room than it begins with, so that one at its edge is told once.
func (w roomWatch) look(free uint64, growths map[string]growth) []string {
	var promised uint64
	for _, growth := range growths {
		promised += growth.bytes
	}
	maps.DeleteFunc(w, func(name string, told toldOf) bool { return growths[name].mount != told.mount })
	now, eased := shortageOf(free, promised), shortageOf(free-free/9, promised)
	var worse []string
	for _, name := range slices.Sorted(maps.Keys(growths)) {
		told := w[name].shortage
		switch {
		case growths[name].bytes > 0 && now > told:
			told = now
			worse = append(worse, name)
		case eased < told:
			told = eased
		}
		w[name] = toldOf{growths[name].mount, told}
	}
	return worse
}
