package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
)

// Hold mounts the volumes of the paths, if their drivers mount them, and keeps
// them mounted until every holder has released them. Other paths are the user's
// own. A holder is recorded before the mount and removed before the unmount:
// mounts left by a crash are found by their holders' directory. The holder may
// write, as with [Store.AllowWrites].
func (s *Store) Hold(ctx context.Context, holder string, sources ...string) error {
	if err := s.HoldToRead(ctx, holder, sources...); err != nil {
		return err
	}
	return s.AllowWrites(holder, sources...)
}

// HoldToRead is Hold for a holder that does not write.
func (s *Store) HoldToRead(ctx context.Context, holder string, sources ...string) error {
	for _, source := range sources {
		volume, _, ours := s.split(source)
		if !ours {
			continue
		}
		if err := s.hold(ctx, holder, filepath.Base(filepath.Dir(volume))); err != nil {
			return err
		}
	}
	return nil
}

// AllowWrites is called before a holder writes: from then on an interrupted
// seeding for another one is not completed, which would overwrite it.
func (s *Store) AllowWrites(holder string, sources ...string) error {
	for _, source := range sources {
		volume, _, ours := s.split(source)
		if !ours {
			continue
		}
		if err := s.forgetSeedings(volume, holder); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) hold(ctx context.Context, holder, name string) error {
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	v, d, err := s.find(name)
	if err != nil {
		return err
	}
	if d == s.drivers[0] && len(v.Options) == 0 {
		return nil // a plain directory
	}
	mounted, err := mounts.IsMountPoint(v.Data())
	if err != nil {
		return err
	}
	if !mounted {
		s.countMount(name)
	}
	holders := filepath.Join(s.held, name)
	if err := os.MkdirAll(holders, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(holders, holder), nil, 0o600); err != nil {
		return errors.Join(err, s.unmountUnlessHeld(name))
	}
	faultpoint.Reached("host.volume.held")
	if !mounted {
		err = s.refusePaths(ctx, v.Options)
	}
	if err == nil && !mounted {
		err = d.Mount(ctx, v)
	}
	if err != nil {
		return errors.Join(err, s.letGoLocked(holder, name))
	}
	faultpoint.Reached("host.volume.mounted")
	s.notifyMounted()
	return nil
}

// Release removes a holder from every volume, and unmounts volumes without
// holders. One that holds none is not an error.
func (s *Store) Release(ctx context.Context, holder string) error {
	names, err := os.ReadDir(s.held)
	if err != nil {
		return err
	}
	var failures []error
	for _, entry := range names {
		if _, err := os.Lstat(filepath.Join(s.held, entry.Name(), holder)); err == nil {
			failures = append(failures, s.letGo(ctx, holder, entry.Name()))
		}
	}
	return errors.Join(failures...)
}

func (s *Store) letGo(ctx context.Context, holder, name string) error {
	unlock, err := s.locks.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return s.letGoLocked(holder, name)
}

func (s *Store) letGoLocked(holder, name string) error {
	if err := os.Remove(filepath.Join(s.held, name, holder)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	faultpoint.Reached("host.volume.let-go")
	return s.unmountUnlessHeld(name)
}

func (s *Store) unmountUnlessHeld(name string) error {
	holders := filepath.Join(s.held, name)
	left, err := os.ReadDir(holders)
	if errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	dir, err := s.path(name)
	if err != nil {
		return err
	}
	if err := mounts.Unmount(driver.Volume{Dir: dir}.Data()); err != nil {
		return err
	}
	faultpoint.Reached("host.volume.let-go.unmounted")
	return os.Remove(holders)
}

// Reclaim unmounts volumes whose holders no longer exist. It runs before any
// other call.
func (s *Store) Reclaim(isThere func(holder string) bool) error {
	names, err := os.ReadDir(s.held)
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range names {
		holders, err := os.ReadDir(filepath.Join(s.held, name.Name()))
		for _, holder := range holders {
			if !isThere(holder.Name()) {
				err = errors.Join(err, os.Remove(filepath.Join(s.held, name.Name(), holder.Name())))
			}
		}
		failures = append(failures, err, s.unmountUnlessHeld(name.Name()))
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("reclaim volumes: %w", err)
	}
	return nil
}
