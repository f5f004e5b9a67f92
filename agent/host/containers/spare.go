package containers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// spareLimit is how long a spare waits to be launched.
const spareLimit = 30 * time.Second

// spare is a container that is launched but for its command, for nobody yet. It
// does not outlive the host process, so it is known here alone. But for what says
// otherwise it is written under the container's lock and the list's.
type spare struct {
	create   *hostv1.CreateContainerRequest
	spec     shimspec.Spec     // the shim's
	settings [sha256.Size]byte // of config.json
	end      *time.Timer       // once it waits

	files   sync.Mutex // held while its files are made, taken or given up
	created bool       // somebody has them; written under the list's lock, too
	ended   bool       // nobody may take them any more
}

// PrepareSpare makes a spare. See the contract.
func (c *Containers) PrepareSpare(ctx context.Context, request *hostv1.PrepareSpareRequest) (err error) {
	create, launched := request.GetCreate(), request.GetLaunch()
	if err := checkSpare(create, launched); err != nil {
		return err
	}
	id := create.ContainerId
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(paths.Dir); !errors.Is(err, os.ErrNotExist) {
		return cmp.Or(err, error(connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("container %s exists", id))))
	}
	held := &spare{create: create}
	held.files.Lock()
	if err := c.spares.add(id, held); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.endSpare(context.WithoutCancel(ctx), id, paths))
		}
	}()
	err = c.createUnlessDone(ctx, create, paths, true)
	held.ended = err != nil
	held.files.Unlock()
	if err != nil {
		return err
	}
	faultpoint.Reached("host.spare.created")
	l := &launch{Containers: c, request: launched, paths: paths, spare: held}
	if _, err := l.run(ctx); err != nil {
		return err
	}
	faultpoint.Reached("host.spare.launched")
	held.spec = l.spec
	held.end = time.AfterFunc(spareLimit, func() {
		if err := c.withoutSpare(id); err != nil {
			slog.Error("a spare is left", "container", id, "error", err)
		}
	})
	return nil
}

// takeSpare keeps the files of a spare, where they are what is to be created. It
// does not wait for the spare's launch, and needs no lock of the container.
func (c *Containers) takeSpare(request *hostv1.CreateContainerRequest, paths shimspec.ContainerPaths) (taken bool, err error) {
	held := c.spares.get(request.ContainerId)
	if held == nil {
		return false, nil
	}
	held.files.Lock()
	defer held.files.Unlock()
	as := held.create
	if held.ended || held.created || !slices.Equal(request.LayerDiffIds, as.LayerDiffIds) ||
		request.WorkingDirectory != as.WorkingDirectory || request.ReadOnlyRoot != as.ReadOnlyRoot || hasContent(request) {
		return false, nil
	}
	c.spares.setCreated(request.ContainerId, true)
	if err := jsonfile.WriteSoonDurable(rootRecordPath(paths), c.rootRecordOf(request)); err != nil {
		c.spares.setCreated(request.ContainerId, false)
		return false, err
	}
	return true, nil
}

// endUntaken ends a spare whose files are not what is to be created, under the
// container's lock.
func (c *Containers) endUntaken(id string, paths shimspec.ContainerPaths) error {
	if c.spares.get(id) != nil {
		if !c.spares.isNobodys(id) {
			return nil
		}
		return c.endSpare(context.Background(), id, paths)
	}
	// One that could not be ended is not whole.
	last, err := readLaunched(paths)
	if err == nil && isSpare(paths, last) {
		err = c.endSpare(context.Background(), id, paths)
	}
	return err
}

// claim launches a spare that differs from what is asked for in nothing but the
// command and its environment. nil: it does not, or did not succeed, and has run
// nothing.
func (c *Containers) claim(
	ctx context.Context, request *hostv1.LaunchContainerRequest, paths shimspec.ContainerPaths, last *launched,
) *hostv1.LaunchContainerResponse {
	held := c.spares.get(request.ContainerId)
	if held == nil || c.spares.isNobodys(request.ContainerId) || !last.alive || last.exited() || last.ready.PID == 0 {
		return nil
	}
	l := &launch{Containers: c, request: request, paths: paths}
	defer l.closeRoot()
	if err := l.claim(ctx, held); err != nil {
		slog.Info("a spare is not used", "container", request.ContainerId, "error", err)
		return nil
	}
	c.spares.remove(request.ContainerId)
	return launchResponse(l.spec, last.ready)
}

func (l *launch) claim(ctx context.Context, held *spare) (err error) {
	if err := checkSpare(held.create, l.request); err != nil {
		return err
	}
	if l.runtime, err = l.Containers.runtime(ctx); err != nil {
		return err
	}
	l.spec = l.shimSpec()
	networked := make(chan error, 1)
	go func() { networked <- l.network.Attach(l.ownNetwork()) }()
	config, err := l.prepareConfig(ctx)
	if err := errors.Join(err, <-networked); err != nil {
		return err
	}
	faultpoint.Reached("host.claim.prepared")
	settings, err := settingsOf(config)
	if err != nil {
		return err
	}
	if settings != held.settings || !isAsPrepared(l.spec, held.spec) {
		return errors.New("it has other settings")
	}
	unlock, err := l.paths.LockSpare(shimspec.Refuse)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(l.paths.ReadyRecord()); err != nil {
		return fmt.Errorf("its shim ends it: %w", err)
	}
	if err := l.writeConfig(config); err != nil {
		return err
	}
	faultpoint.Reached("host.claim.configured")
	l.spec.Claimed = true
	// Last: with it the shim executes the command.
	if err := jsonfile.Write(l.paths.Spec(), l.spec); err != nil {
		return err
	}
	faultpoint.Reached("host.claim.specified")
	return nil
}

// isAsPrepared compares what shims are told.
func isAsPrepared(launched, prepared shimspec.Spec) bool {
	prepared.Spare = false
	wanted, wantedErr := json.Marshal(launched)
	got, gotErr := json.Marshal(prepared)
	return wantedErr == nil && gotErr == nil && bytes.Equal(wanted, got)
}

// isSpare tells it by what is on disk. A record that cannot be read is of no spare,
// which would be ended, nor is one that a crash of the machine has brought back.
func isSpare(paths shimspec.ContainerPaths, last *launched) bool {
	var record rootRecord
	_, err := jsonfile.Read(rootRecordPath(paths), &record)
	return last.spec.Spare || (last.spec.Generation == 0 || last.damaged) && err == nil && record.Spare
}

// endSpare releases a spare. Files that nobody has created go with it.
func (c *Containers) endSpare(ctx context.Context, id string, paths shimspec.ContainerPaths) error {
	// One that asks for it waits for the lock, and finds the records.
	defer c.spares.remove(id)
	if held := c.spares.get(id); held != nil {
		held.files.Lock()
		held.ended = true
		held.files.Unlock()
	}
	last, err := readLaunched(paths)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(paths.Run); err == nil {
		if err := c.release(ctx, id, paths, last, nothingFollows); err != nil {
			return err
		}
	}
	faultpoint.Reached("host.spare.released")
	// The first generation has not run: the shim takes our kill for its end.
	for _, name := range []string{paths.ExitRecord(), paths.Spec()} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	var record rootRecord
	if exists, err := jsonfile.Read(rootRecordPath(paths), &record); err != nil || exists && !record.Spare {
		return err
	}
	return c.trash.Discard(paths.Dir)
}

// endIfSpare is endSpare for any container, under its lock.
func (c *Containers) endIfSpare(ctx context.Context, id string, paths shimspec.ContainerPaths) error {
	if c.spares.get(id) == nil {
		return nil
	}
	return c.endSpare(ctx, id, paths)
}

// withoutSpare ends a container's spare, if it has one.
func (c *Containers) withoutSpare(id string) error {
	if c.spares.get(id) == nil {
		return nil
	}
	return c.lockAndEnd(context.Background(), id)
}

func (c *Containers) lockAndEnd(ctx context.Context, id string) error {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return c.endIfSpare(ctx, id, paths)
}

// EndSparesOf ends the spares that nobody has created and that stand on a layer:
// before its removal, since they use it, and after, when there can be no more.
func (c *Containers) EndSparesOf(ctx context.Context, diffID string) error {
	return c.endAll(ctx, c.spares.that(func(held *spare) bool {
		return !held.created && slices.Contains(held.create.LayerDiffIds, diffID)
	}))
}

// EndSpares ends all, and has no more made.
func (c *Containers) EndSpares(ctx context.Context) error { return c.endAll(ctx, c.spares.close()) }

func (c *Containers) endAll(ctx context.Context, ids []string) error {
	ended := make(chan error, len(ids))
	for _, id := range ids {
		go func() { ended <- c.lockAndEnd(ctx, id) }()
	}
	var failures []error
	for range ids {
		failures = append(failures, <-ended)
	}
	return errors.Join(failures...)
}
