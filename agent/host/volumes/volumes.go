// Package volumes keeps the volumes, each through its driver, and fills them from
// images.
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
	"slices"
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
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Store holds the volumes of one instance: <dir>/<name>/_data is visible to
// containers, <dir>/<name>/volume.json records the driver and its options.
type Store struct {
	dir     string
	held    string // directory of the holders: <held>/<name>/<holder>
	trash   *trash.Can
	paths   *userpaths.Looks
	drivers []driver.Driver // the first is that of volumes without a record
	locks   keylock.Locks   // by volume name
	// exclusive has the names of exclusive volumes, and perhaps of ones that are gone.
	exclusive sync.Map

	mounting  sync.Mutex
	mounted   change.Signal     // a volume was mounted
	mounts    map[string]uint64 // the number of each volume's last mount, by name
	lastMount uint64            // of any volume

	roomPeriod time.Duration // how often the disk's free space is checked
}

// Options configure a Store.
type Options struct {
	Dir string
	// RunDir holds the records of mounted volumes: it does not survive a reboot.
	RunDir    string
	Trash     *trash.Can // on Dir's file system
	UserPaths *userpaths.Looks
	Drivers   []driver.Driver
	// RoomPeriod is how often the disk's free space is compared with the volumes'
	// possible growth; 0: every 10 s.
	RoomPeriod time.Duration
}

const roomPeriod = 10 * time.Second

// Open creates the store's directories.
func Open(options Options) (*Store, error) {
	s := &Store{dir: options.Dir, held: filepath.Join(options.RunDir, "volumes"), trash: options.Trash, paths: options.UserPaths, drivers: options.Drivers}
	s.mounts = map[string]uint64{}
	s.roomPeriod = cmp.Or(options.RoomPeriod, roomPeriod)
	for _, dir := range []string{s.dir, s.held} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open volumes: %w", err)
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	for _, entry := range entries {
		s.find(entry.Name()) // remembers exclusive ones; whoever uses a damaged record gets its error
	}
	return s, nil
}

// Drivers returns the names and rules of the drivers, the default one first.
func (s *Store) Drivers() []*hostv1.VolumeDriver {
	var traits []*hostv1.VolumeDriver
	for _, d := range s.drivers {
		traits = append(traits, d.Traits())
	}
	return traits
}

// record is volume.json. A volume without one is a plain directory of the first
// driver.
type record struct {
	Version int               `json:"version"`
	Driver  string            `json:"driver"`
	Options map[string]string `json:"options,omitempty"`
}

const recordVersion = 1

func recordPath(dir string) string { return filepath.Join(dir, "volume.json") }

// maxName is the limit of a directory's name.
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

// find returns an existing volume and its driver. It remembers exclusive ones,
// also those that somebody else has put into the directory.
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
	if err == nil && isExclusive(d) {
		s.exclusive.Store(name, nil)
	}
	return v, d, err
}

// Create creates the volume if it does not exist, and returns its data directory
// and the driver's description. INVALID_ARGUMENT: options. ALREADY_EXISTS: it
// exists with other options. DEADLINE_EXCEEDED: a path in the options is on a file
// system that does not answer.
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
	if err := s.refusePaths(ctx, request.Options); err != nil {
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
			err = errors.Join(err, s.discard(v))
		}
		return nil, err
	}
	return &hostv1.CreateVolumeResponse{Path: v.Data(), Mountpoint: made.Mountpoint, Status: made.Status}, nil
}

func (s *Store) create(ctx context.Context, d driver.Driver, v driver.Volume) (made driver.Made, err error) {
	if isExclusive(d) {
		s.exclusive.Store(v.Name, nil)
	}
	if err := os.MkdirAll(v.Dir, 0o700); err != nil {
		return made, err
	}
	plain := d == s.drivers[0] && len(v.Options) == 0
	isThere, err := hasData(v)
	if err != nil {
		return made, err
	}
	// An existing volume without a record is a plain one, and stays so whatever
	// the request.
	if _, err := os.Lstat(recordPath(v.Dir)); errors.Is(err, os.ErrNotExist) && !isThere && !plain {
		kept := record{Version: recordVersion, Driver: d.Traits().Name, Options: v.Options}
		if err := jsonfile.WriteDurable(recordPath(v.Dir), kept); err != nil {
			return made, err
		}
	}
	faultpoint.Reached("host.volume.recorded")
	if !isThere {
		if err := os.Mkdir(v.Data(), 0o755); err != nil {
			return made, err
		}
		if err := os.Chmod(v.Data(), 0o755); err != nil { // whatever our umask
			return made, err
		}
	}
	return d.Make(ctx, v)
}

// Remove makes the volume disappear and unmounts it; its files are deleted in the
// background. A missing one is not an error.
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
	return s.discard(driver.Volume{Name: name, Dir: dir})
}

// discard makes a volume's directory disappear.
func (s *Store) discard(v driver.Volume) error {
	if err := s.trash.Discard(v.Dir); err != nil {
		return err
	}
	s.exclusive.Delete(v.Name)
	return nil
}

// List returns the existing volumes, except those that cannot be read. It touches
// nothing that is mounted, since a server that is away does not answer.
func (s *Store) List() ([]*hostv1.VolumeOnDisk, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var found []*hostv1.VolumeOnDisk
	for _, entry := range entries {
		volume, err := s.onDisk(entry.Name())
		if err != nil {
			slog.Warn("a volume is not listed", "volume", entry.Name(), "error", err)
		}
		if volume != nil {
			found = append(found, volume)
		}
	}
	return found, nil
}

// onDisk describes a volume; nil: it is not created yet, or gone. Its directory's
// time is that of its creation, or of what was last made beside its content.
func (s *Store) onDisk(name string) (*hostv1.VolumeOnDisk, error) {
	v, d, err := s.find(name)
	if err != nil {
		return nil, err
	}
	isThere, err := hasData(v)
	if errors.Is(err, os.ErrNotExist) || err == nil && !isThere {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(v.Dir)
	if err != nil {
		return nil, err
	}
	return &hostv1.VolumeOnDisk{
		Name: v.Name, Driver: d.Traits().Name, Options: v.Options, Created: timestamppb.New(info.ModTime()),
	}, nil
}

// hasData reports whether a volume has its data directory. It does not look at
// that: what is mounted there may not answer.
func hasData(v driver.Volume) (bool, error) {
	dir, err := os.Open(v.Dir)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	inside, err := dir.Readdirnames(-1)
	return slices.Contains(inside, filepath.Base(v.Data())), err
}

// Measure returns the volume's size in bytes; 0 for a missing one.
func (s *Store) Measure(ctx context.Context, name string) (uint64, error) {
	v, d, err := s.find(name)
	if err != nil {
		return 0, err
	}
	return d.Measure(ctx, v)
}
