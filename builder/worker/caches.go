package worker

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	bkworker "github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// cacheVolumes are the volumes of cache mounts.
type cacheVolumes struct {
	// The number of steps using each, from before the backend knows of the volume.
	*holds

	mu sync.Mutex
	// Those that a step uses exclusively, closed when it returns them.
	busy map[string]chan struct{}
}

func newCacheVolumes() *cacheVolumes {
	return &cacheVolumes{holds: newHolds(), busy: map[string]chan struct{}{}}
}

// take returns the volume of a cache mount, named after its first ID, and a function that returns it. It waits for a
// pending removal.
func (c *cacheVolumes) take(ctx context.Context, base string, sharing pb.CacheSharingOpt) (string, func(), error) {
	name, giveBack := base, func() {}
	if sharing != pb.CacheSharingOpt_SHARED {
		var err error
		if name, giveBack, err = c.takeAlone(ctx, base, sharing == pb.CacheSharingOpt_PRIVATE); err != nil {
			return "", nil, err
		}
	}
	if err := c.hold(ctx, name); err != nil {
		giveBack()
		return "", nil, err
	}
	return name, func() { c.letGo(name); giveBack() }, nil
}

// takeAlone takes a volume exclusively: for a private mount the first free one, otherwise it waits for the one of that
// name.
func (c *cacheVolumes) takeAlone(ctx context.Context, base string, isPrivate bool) (string, func(), error) {
	for number := 0; ; {
		name := base
		if number > 0 {
			name = fmt.Sprintf("%s-%d", base, number)
		}
		c.mu.Lock()
		waiting, isBusy := c.busy[name]
		if !isBusy {
			done := make(chan struct{})
			c.busy[name] = done
			c.mu.Unlock()
			return name, func() {
				c.mu.Lock()
				delete(c.busy, name)
				c.mu.Unlock()
				close(done)
			}, nil
		}
		c.mu.Unlock()
		if isPrivate {
			number++
			continue
		}
		select {
		case <-waiting:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		}
	}
}

// volumeOf returns the name of the volume of a cache mount, and the state that it starts from, if any. A mount with an
// owner, a mode or a source starts as a directory of a state, and has a separate volume for each combination.
func (s *step) volumeOf(mount *pb.Mount) (name string, from *ref, err error) {
	name = cacheVolume(mount.CacheOpt.GetID())
	if mount.Input < 0 {
		return name, nil, nil
	}
	input := s.inputs[mount.Input].Sys().(*bkworker.WorkerRef).ImmutableRef
	if files, ok := input.(*ref); ok && !files.isState() {
		return "", nil, fmt.Errorf("sockerless: RUN --mount=type=cache,target=%s,from=… of a build context is not implemented by the builder: COPY it to a stage and name that", mount.Dest)
	}
	if from, err = stateOf(input); err != nil {
		return "", nil, err
	}
	if path.Join("/", mount.Selector) == "/" {
		return "", nil, fmt.Errorf("sockerless: RUN --mount=type=cache,target=%s,from=… without a source is not implemented by the builder", mount.Dest)
	}
	return name + "-of-" + digest.FromString(from.id + ":" + mount.Selector).Encoded()[:12], from, nil
}

// mountCache mounts a volume of the backend named after the mount's ID. `locked` serialises steps; `private` gives each
// concurrent step its own volume.
func (s *step) mountCache(ctx context.Context, mount *pb.Mount) error {
	name, from, err := s.volumeOf(mount)
	if err != nil {
		return err
	}
	volume, isMounted := s.caches[name]
	if !isMounted {
		taken, release, err := s.worker.caches.take(ctx, name, mount.CacheOpt.GetSharing())
		if err != nil {
			return err
		}
		s.atEnd = append(s.atEnd, func(context.Context) error { release(); return nil })
		if s.caches == nil {
			s.caches = map[string]string{}
		}
		s.caches[name], volume = taken, taken
	}
	if from != nil {
		if err := s.fillCache(ctx, volume, from.id, path.Join("/", mount.Selector)); err != nil {
			return err
		}
	}
	s.host.Mounts = append(s.host.Mounts, &backendv1.Mount{
		Type: "volume", Source: volume, Target: mount.Dest, ReadOnly: mount.Readonly,
		VolumeOptions: &backendv1.VolumeOptions{NoCopy: true, Labels: map[string]string{backend.Label: "cache"}},
	})
	return nil
}

// fillCache creates a volume with a directory of a state as its content, as a container's new volume gets its image's
// content. An existing volume is unchanged.
func (s *step) fillCache(ctx context.Context, volume, image, directory string) error {
	w := s.worker
	_, filled, err := w.caches.takeAlone(ctx, volume+" being filled", false)
	if err != nil {
		return err
	}
	defer filled()
	exists, err := w.backend.HasVolume(ctx, volume)
	if err != nil || exists {
		return backend.Plain(err)
	}
	id, _, err := w.backend.CreateContainer(ctx, &backendv1.ContainerConfig{
		Image: image, Cmd: &backendv1.StringList{Values: []string{"/"}},
	}, &backendv1.HostConfig{Mounts: []*backendv1.Mount{{
		Type: "volume", Source: volume, Target: directory,
		VolumeOptions: &backendv1.VolumeOptions{Labels: map[string]string{backend.Label: "cache"}},
	}}})
	if err != nil {
		return backend.Plain(err)
	}
	w.removeBehind(SessionsOf(s.job.Session()), id)
	return nil
}

// cacheVolumePrefix is that of the names of all cache mounts' volumes, and cacheVolumeLength the length of what
// cacheVolume returns.
const (
	cacheVolumePrefix = "sockerless-build-"
	cacheVolumeLength = len(cacheVolumePrefix) + 24
)

// cacheVolume is the prefix of the names of an ID's volumes.
func cacheVolume(id string) string {
	return (cacheVolumePrefix + digest.FromString(id).Encoded())[:cacheVolumeLength]
}
