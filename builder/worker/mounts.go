package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/solver/pb"
	bkworker "github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"

	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

func (s *step) mount(ctx context.Context, mount *pb.Mount) error {
	switch {
	case mount.Dest == pb.RootMount:
		if mount.Input < 0 {
			return nil
		}
		root, release, err := s.worker.baseOf(ctx, s.inputs[mount.Input].Sys().(*bkworker.WorkerRef).ImmutableRef)
		if err != nil {
			return err
		}
		s.root = root
		if release != nil {
			s.atEnd = append(s.atEnd, release)
		}
		return nil
	case mount.Output != int64(pb.SkipOutput) && mount.MountType == pb.MountType_BIND:
		return fmt.Errorf("sockerless: a mount at %s whose changes are kept is not implemented by the builder", mount.Dest)
	}
	switch mount.MountType {
	case pb.MountType_BIND:
		return s.mountBind(ctx, mount)
	case pb.MountType_TMPFS:
		size, options := mount.TmpfsOpt.GetSize(), ""
		if size > 0 && mount.Dest == sharedMemory {
			s.host.ShmSize = size
			return nil
		}
		if size > 0 {
			options = fmt.Sprintf("size=%d", size)
		}
		if s.host.Tmpfs == nil {
			s.host.Tmpfs = map[string]string{}
		}
		s.host.Tmpfs[mount.Dest] = options
		return nil
	case pb.MountType_CACHE:
		return s.mountCache(ctx, mount)
	case pb.MountType_SECRET:
		return s.mountSecret(ctx, mount)
	case pb.MountType_SSH:
		return s.mountSSH(ctx, mount)
	}
	return fmt.Errorf("sockerless: RUN --mount=type=%s is not implemented by the builder", strings.ToLower(mount.MountType.String()))
}

// sharedMemory is where BuildKit mounts a tmpfs for --shm-size.
const sharedMemory = "/dev/shm"

// mountBind mounts files of a state or of the context as an image: neither its content nor what is written there
// becomes part of the step's layer.
func (s *step) mountBind(ctx context.Context, mount *pb.Mount) error {
	if mount.Input < 0 {
		return fmt.Errorf("sockerless: RUN --mount=type=bind,target=%s,from=scratch is not implemented by the builder: there is nothing to mount", mount.Dest)
	}
	from := s.inputs[mount.Input].Sys().(*bkworker.WorkerRef).ImmutableRef
	selector := path.Join("/", mount.Selector)
	if files, ok := from.(*ref); ok && s.worker.mountsDirectoriesOnly {
		if given, err := s.giveFile(ctx, mount, files, selector); given || err != nil {
			return err
		}
	}
	state, err := stateOf(from)
	if files, ok := from.(*ref); ok && !files.isState() {
		state, selector, err = s.worker.stateOfContext(ctx, files, selector, client.UsageRecordTypeInternal)
		if err == nil {
			s.atEnd = append(s.atEnd, func(ctx context.Context) error {
				err := state.Release(ctx)
				// A state that fails to be removed now is pruned later.
				Warn("remove a mounted context", s.worker.states.removeInternal(ctx, state.id))
				return err
			})
		}
	}
	if err != nil {
		return err
	}
	s.host.Mounts = append(s.host.Mounts, &backendv1.Mount{
		Type: "image", Source: state.id, Target: mount.Dest, ReadOnly: mount.Readonly,
		ImageOptions: &backendv1.ImageOptions{Subpath: strings.TrimPrefix(selector, "/")},
	})
	return nil
}

// stateOfContext makes a state of a path of a context, and returns the path with its links resolved.
func (w *Worker) stateOfContext(ctx context.Context, from *ref, name string, kind client.UsageRecordType) (*ref, string, error) {
	dir := from.context.path
	resolved, err := continuity.RootPath(dir, name)
	if err != nil {
		return nil, "", err
	}
	if _, err := os.Lstat(resolved); err != nil {
		return nil, "", fmt.Errorf("%q: not found", name)
	}
	selected := strings.TrimPrefix(resolved, dir)
	layer, err := measured(&layerContent{dir: dir, beneath: selected})
	if err != nil {
		return nil, "", fmt.Errorf("write a layer: %w", err)
	}
	made, err := w.states.install(ctx, []digest.Digest{layer.DiffID}, layer, origin{description: "context", kind: kind})
	if err != nil {
		return nil, "", err
	}
	return w.stateRef(made), path.Join("/", selected), nil
}

// mountSecret gives the container a secret of the build's client, only with its start: it is not stored.
func (s *step) mountSecret(ctx context.Context, mount *pb.Mount) error {
	options := mount.SecretOpt
	if options == nil {
		return errors.New("invalid secret mount options")
	}
	content, isGiven, err := s.secret(ctx, options.ID, options.Optional)
	if err != nil || !isGiven {
		return err
	}
	s.secrets.Files = append(s.secrets.Files, &backendv1.SecretFile{
		Path: mount.Dest, Content: content, Mode: options.Mode & 0o777, Uid: options.Uid, Gid: options.Gid,
	})
	return nil
}

// maxSilence bounds how long a session may leave a question of a step that other sessions share.
const maxSilence = 10 * time.Second

// ask asks the sessions of all builds that share the step until one has answered: who waits may not be the user of the silent one.
// A build that shares the step with nobody waits for its own, whose user may have to type a password.
func (s *step) ask(ctx context.Context, question func(context.Context, session.Caller) error) error {
	return s.sessions.Any(ctx, s.job.Session(), func(ctx context.Context, id string, caller session.Caller) error {
		asking, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		isOther := func(other string) bool { return other != id }
		go func() {
			for asking.Err() == nil {
				select {
				case <-asking.Done():
				case <-time.After(s.worker.silence):
					if slices.ContainsFunc(session.AllSessionIDs(s.job.Session()), isOther) {
						cancel(fmt.Errorf("the build's client has not answered for %s", s.worker.silence))
					}
				}
			}
		}()
		err := question(asking, caller)
		if err != nil && asking.Err() != nil {
			return context.Cause(asking)
		}
		return err
	})
}

// secret requests a secret from the build's client; it may be missing if it is optional.
func (s *step) secret(ctx context.Context, id string, isOptional bool) (content []byte, isGiven bool, err error) {
	err = s.ask(ctx, func(ctx context.Context, caller session.Caller) (err error) {
		content, err = secrets.GetSecret(ctx, caller, id)
		return err
	})
	if errors.Is(err, secrets.ErrNotFound) && isOptional {
		return nil, false, nil
	}
	return content, err == nil, err
}
