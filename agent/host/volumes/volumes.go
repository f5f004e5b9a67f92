// Package volumes keeps what outlives containers, each volume in the way of its
// driver, and fills it from images.
package volumes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/keylock"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Store holds the volumes of one instance: <dir>/<name>/_data is what containers
// see, <dir>/<name>/volume.json tells the driver and its options.
type Store struct {
	dir     string
	held    string // directory of the holders: <held>/<name>/<holder>
	trash   *trash.Can
	drivers []driver.Driver // the first is that of volumes without a record
	locks   keylock.Locks   // by volume name

	mounting  sync.Mutex
	mounted   change.Signal     // a volume was mounted
	mounts    map[string]uint64 // the number of each one's last, by name
	lastMount uint64            // of any volume

	roomPeriod time.Duration // how often the disk's room is looked at
}

// Options is what a Store works with.
type Options struct {
	Dir string
	// RunDir is where it is noted who has a volume mounted: gone with the machine.
	RunDir  string
	Trash   *trash.Can // on Dir's file system
	Drivers []driver.Driver
	// RoomPeriod is how often it is looked whether the disk has room for what
	// volumes may yet take; 0: every 10 s.
	RoomPeriod time.Duration
}

const roomPeriod = 10 * time.Second

// Open makes the store's directories.
func Open(options Options) (*Store, error) {
	s := &Store{dir: options.Dir, held: filepath.Join(options.RunDir, "volumes"), trash: options.Trash, drivers: options.Drivers}
	s.mounts = map[string]uint64{}
	s.roomPeriod = cmp.Or(options.RoomPeriod, roomPeriod)
	for _, dir := range []string{s.dir, s.held} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open volumes: %w", err)
		}
	}
	return s, nil
}

// Drivers are the names and rules of the drivers, the default one first.
func (s *Store) Drivers() []*hostv1.VolumeDriver {
	var traits []*hostv1.VolumeDriver
	for _, d := range s.drivers {
		traits = append(traits, d.Traits())
	}
	return traits
}

// record is volume.json. A volume without one is a plain directory of the first
// driver's.
type record struct {
	Version int               `json:"version"`
	Driver  string            `json:"driver"`
	Options map[string]string `json:"options,omitempty"`
}

const recordVersion = 1

func recordPath(dir string) string { return filepath.Join(dir, "volume.json") }

// maxName is what a directory's name may have.
const maxName = 255

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func (s *Store) path(name string) (string, error) {
	if len(name) > maxName || !namePattern.MatchString(name) {
		return "", connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not a volume name", name))
	}
	return filepath.Join(s.dir, name), nil
}

func (s *Store) driver(name string) (driver.Driver, error) {
	for _, d := range s.drivers {
		if d.Traits().Name == name {
			return d, nil
		}
	}
	return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("there is no volume driver %q", name))
}

// find returns a volume that exists, and its driver.
func (s *Store) find(name string) (driver.Volume, driver.Driver, error) {
	dir, err := s.path(name)
	v := driver.Volume{Name: name, Dir: dir}
	if err != nil {
		return v, nil, err
	}
	var kept record
	content, err := os.ReadFile(recordPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return v, s.drivers[0], nil
	}
	if err == nil {
		err = json.Unmarshal(content, &kept)
	}
	if err != nil {
		return v, nil, fmt.Errorf("the record of volume %s cannot be read: %w", name, err)
	}
	v.Options = kept.Options
	d, err := s.driver(kept.Driver)
	return v, d, err
}

// Create makes the volume, unless it is there, and answers its data directory
// with what its driver tells of it. INVALID_ARGUMENT: options. ALREADY_EXISTS: it
// is there, and other than asked.
func (s *Store) Create(ctx context.Context, request *hostv1.CreateVolumeRequest) (*hostv1.CreateVolumeResponse, error) {
	dir, err := s.path(request.Name)
	if err != nil {
		return nil, err
	}
	d, err := s.driver(request.Driver)
	if err != nil {
		return nil, err
	}
	if err := d.Check(request.Options); err != nil {
		return nil, fmt.Errorf("create %s: %w", request.Name, err)
	}
	if err := s.refusePaths(request.Options); err != nil {
		return nil, fmt.Errorf("create %s: %w", request.Name, err)
	}
	unlock, err := s.locks.Lock(ctx, request.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v := driver.Volume{Name: request.Name, Options: request.Options, Dir: dir}
	_, err = os.Lstat(dir)
	fresh := errors.Is(err, os.ErrNotExist)
	made, err := s.create(ctx, d, v)
	if err != nil {
		err = fmt.Errorf("create %s: %w", v.Name, err)
		if fresh {
			err = errors.Join(err, s.trash.Discard(dir))
		}
		return nil, err
	}
	return &hostv1.CreateVolumeResponse{Path: v.Data(), Mountpoint: made.Mountpoint, Status: made.Status}, nil
}

func (s *Store) create(ctx context.Context, d driver.Driver, v driver.Volume) (made driver.Made, err error) {
	if err := os.MkdirAll(v.Dir, 0o700); err != nil {
		return made, err
	}
	plain := d == s.drivers[0] && len(v.Options) == 0
	_, err = os.Lstat(v.Data())
	// A volume that is there without a record is a plain one, and stays so whatever is asked for.
	isNew := errors.Is(err, os.ErrNotExist)
	if _, err := os.Lstat(recordPath(v.Dir)); errors.Is(err, os.ErrNotExist) && isNew && !plain {
		kept := record{Version: recordVersion, Driver: d.Traits().Name, Options: v.Options}
		if err := jsonfile.WriteDurable(recordPath(v.Dir), kept); err != nil {
			return made, err
		}
	}
	faultpoint.Reached("host.volume.recorded")
	if err := os.Mkdir(v.Data(), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return made, err
	} else if err == nil {
		if err := os.Chmod(v.Data(), 0o755); err != nil { // whatever our umask
			return made, err
		}
	}
	return d.Make(ctx, v)
}

// Remove makes the volume disappear, and what is mounted of it; its files are
// deleted behind the answer. A missing one is no error.
func (s *Store) Remove(ctx context.Context, name string) error {
	dir, err := s.path(name)
	if err != nil {
		return err
	}
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := errors.Join(mounts.Unmount(driver.Volume{Dir: dir}.Data()), os.RemoveAll(filepath.Join(s.held, name))); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	s.forgetMounts(name)
	faultpoint.Reached("host.volume.unmounted")
	return s.trash.Discard(dir)
}

// List returns the volumes that are made. One whose record cannot be read is left
// out.
func (s *Store) List() ([]*hostv1.VolumeOnDisk, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var found []*hostv1.VolumeOnDisk
	for _, entry := range entries {
		v, d, err := s.find(entry.Name())
		if err != nil {
			slog.Warn("a volume is not listed", "volume", entry.Name(), "error", err)
			continue
		}
		info, err := os.Stat(v.Data())
		if errors.Is(err, os.ErrNotExist) { // not made yet
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list volumes: %w", err)
		}
		found = append(found, &hostv1.VolumeOnDisk{
			Name: v.Name, Driver: d.Traits().Name, Options: v.Options, Created: timestamppb.New(info.ModTime()),
		})
	}
	return found, nil
}

// Measure returns the bytes that the volume takes; one that is missing takes none.
func (s *Store) Measure(ctx context.Context, name string) (uint64, error) {
	v, d, err := s.find(name)
	if err != nil {
		return 0, err
	}
	return d.Measure(ctx, v)
}
