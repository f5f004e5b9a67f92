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

// criticalRoom is the free space, in bytes, below which a shortage is reported a
// second time.
const criticalRoom = 1 << 30

// WatchRoom reports held volumes that may outgrow their disk, as
// HostService.WatchVolumes defines, until ctx is done. It checks after each
// mount, and periodically while a growing volume is mounted.
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

// nextMount is closed when the next volume is mounted.
func (s *Store) nextMount() <-chan struct{} {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	return s.mounted.Next()
}

// countMount is called before the volume is recorded as held: a check sees either
// the old mount or the new one.
func (s *Store) countMount(name string) {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	s.lastMount++
	s.mounts[name] = s.lastMount
}

// forgetMounts is called once a volume is removed: a later one of the same name
// starts anew.
func (s *Store) forgetMounts(name string) {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	delete(s.mounts, name)
}

// notifyMounted wakes those waiting for a mount.
func (s *Store) notifyMounted() {
	s.mounting.Lock()
	defer s.mounting.Unlock()
	s.mounted.Notify()
}

// disk is a file system with held volumes.
type disk struct {
	free    uint64            // bytes
	growths map[string]growth // by the volume's name
}

// growth is how much a mounted volume may still take.
type growth struct {
	bytes uint64
	mount uint64 // which of its mounts it is
}

// disks returns the disks of held volumes that may grow, by device number: a
// volume's directory may be a link to another disk. It logs errors, except those
// already in failures (by name), which it updates.
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
			continue // its users get the error of the damaged record
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

// roomAt returns the device and the free bytes of a directory's file system.
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

// shortage is the severity of a lack of space.
type shortage int

const (
	enough shortage = iota
	lessThanPromised
	critical
)

func shortageOf(free, promised uint64) shortage {
	switch {
	case free >= promised:
		return enough
	case free >= criticalRoom:
		return lessThanPromised
	default:
		return critical
	}
}

// roomWatch records the last report on one disk, by volume.
type roomWatch map[string]reported

type reported struct {
	mount    uint64
	shortage shortage
}

// look returns the volumes to report. A shortage ends only at an eighth more
// space than where it begins, so that one at its edge is reported once.
func (w roomWatch) look(free uint64, growths map[string]growth) []string {
	var promised uint64
	for _, growth := range growths {
		promised += growth.bytes
	}
	maps.DeleteFunc(w, func(name string, told reported) bool { return growths[name].mount != told.mount })
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
		w[name] = reported{growths[name].mount, told}
	}
	return worse
}
