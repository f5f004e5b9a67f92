package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	continuity "github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/llbsolver/linuxresources"
	"github.com/moby/buildkit/solver/llbsolver/ops"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/logs"
	"github.com/moby/buildkit/util/system"
	bkworker "github.com/moby/buildkit/worker"
	digest "github.com/opencontainers/go-digest"
	pkgerrors "github.com/pkg/errors"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// execOp runs a command in an ordinary container of the backend, whose changes become a layer. Its cache key is
// BuildKit's own.
type execOp struct {
	*ops.ExecOp
	worker      *Worker
	op          *pb.ExecOp
	platform    *pb.Platform
	limits      *pb.LinuxResources
	description string
	sessions    *session.Manager
}

func (w *Worker) newExecOp(v solver.Vertex, op *pb.Op_Exec, platform *pb.Platform, sessions *session.Manager) (solver.Op, error) {
	var limits *pb.LinuxResources
	if known, ok := v.Options().Metadata.(*linuxresources.Metadata); ok && known != nil {
		limits = known.LinuxResources
	}
	real, err := ops.NewExecOp(v, op, platform, &manager{Worker: w}, nil, sessions, nil, w, limits, false)
	if err != nil {
		return nil, err
	}
	return &execOp{ExecOp: real, worker: w, op: op.Exec, platform: platform, limits: limits, description: v.Name(), sessions: sessions}, nil
}

// resourcesOf are a container's, of what BuildKit says of a process.
func resourcesOf(limits *pb.LinuxResources, ulimits []*pb.Ulimit, cgroupParent string) *backendv1.Resources {
	made := &backendv1.Resources{
		CgroupParent: cgroupParent, Memory: limits.GetMemory(), MemorySwap: limits.GetMemorySwap(),
		CpuShares: int64(limits.GetCpuShares()), CpuPeriod: int64(limits.GetCpuPeriod()), CpuQuota: limits.GetCpuQuota(),
		CpusetCpus: limits.GetCpusetCpus(), CpusetMems: limits.GetCpusetMems(),
	}
	for _, each := range ulimits {
		made.Ulimits = append(made.Ulimits, &backendv1.Ulimit{Name: each.Name, Soft: each.Soft, Hard: each.Hard})
	}
	return made
}

// CacheMap is BuildKit's, whose checksums of mounted states are made of what is mounted.
func (o *execOp) CacheMap(ctx context.Context, job solver.JobContext, index int) (*solver.CacheMap, bool, error) {
	made, done, err := o.ExecOp.CacheMap(ctx, job, index)
	if err != nil {
		return nil, false, err
	}
	for input := range made.Deps {
		if compute := made.Deps[input].ComputeDigestFunc; compute != nil {
			made.Deps[input].ComputeDigestFunc = o.worker.overFetched(o.pathsMounted(input), compute)
		}
	}
	return made, done, nil
}

func (o *execOp) pathsMounted(input int) []string {
	var paths []string
	for _, mount := range o.op.Mounts {
		if int(mount.Input) == input {
			paths = append(paths, path.Join("/", mount.Selector))
		}
	}
	return paths
}

func (o *execOp) Acquire(ctx context.Context) (solver.ReleaseFunc, error) {
	if err := o.worker.running.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { o.worker.running.Release(1) }, nil
}

func (o *execOp) Exec(ctx context.Context, job solver.JobContext, inputs []solver.Result) (outputs []solver.Result, err error) {
	defer recovered(&err)
	if o.platform != nil && (o.platform.OS != "linux" || o.platform.Architecture != runtime.GOARCH) {
		return nil, fmt.Errorf("sockerless: RUN for %s/%s is not implemented by the builder: containers of this backend are linux/%s",
			o.platform.OS, o.platform.Architecture, runtime.GOARCH)
	}
	if o.op.Security == pb.SecurityMode_INSECURE {
		return nil, errors.New("sockerless: RUN --security=insecure is not implemented by the builder: no step is privileged")
	}
	step := &step{execOp: o, job: job, inputs: inputs}
	defer func() { err = errors.Join(err, step.end(context.WithoutCancel(ctx))) }()
	outputs, err = step.run(forBuilds(ctx, job.Session()))
	return unlessCancelled(ctx, outputs, err)
}

// step is one run of an execOp.
type step struct {
	*execOp
	job    solver.JobContext
	inputs []solver.Result

	root    *ref
	config  *backendv1.ContainerConfig
	host    *backendv1.HostConfig
	secrets backend.Secrets
	// Agents that answer at sockets among the secrets.
	sshAgents []sshAgent
	// Volumes of its cache mounts, by the name of the first of their IDs: a step may mount one at several places.
	caches map[string]string
	atEnd  []func(context.Context) error
}

func (s *step) end(ctx context.Context) error {
	var err error
	for _, each := range slices.Backward(s.atEnd) {
		err = errors.Join(err, each(ctx))
	}
	return err
}

// extraHost is a host as a backend is told of it.
func extraHost(name, address string) string {
	if address == HostGateway {
		address = "host-gateway"
	}
	return name + ":" + address
}

func (s *step) run(ctx context.Context) ([]solver.Result, error) {
	meta := s.op.Meta
	s.config = &backendv1.ContainerConfig{
		User: meta.User, WorkingDir: meta.Cwd, Hostname: cmp.Or(meta.Hostname, defaultHostname),
		Entrypoint:  &backendv1.StringList{Values: meta.Args[:1]},
		Cmd:         &backendv1.StringList{Values: meta.Args[1:]},
		Healthcheck: &backendv1.HealthConfig{Test: []string{"NONE"}},
	}
	s.host = &backendv1.HostConfig{Resources: resourcesOf(s.limits, meta.Ulimit, meta.CgroupParent)}
	switch s.op.Network {
	case pb.NetMode_NONE:
		s.host.NetworkMode = "none"
	case pb.NetMode_HOST:
		s.host.NetworkMode = "host"
	}
	for _, each := range meta.ExtraHosts {
		s.host.ExtraHosts = append(s.host.ExtraHosts, extraHost(each.Host, each.IP))
	}
	s.config.Env = s.environment()
	for _, each := range s.op.Secretenv {
		content, _, err := s.secret(ctx, each.ID, each.Optional)
		if err != nil {
			return nil, err
		}
		s.secrets.Env = append(s.secrets.Env, each.Name+"="+string(content))
	}
	var isReadOnly bool
	for _, mount := range s.op.Mounts {
		if mount.Dest == pb.RootMount {
			isReadOnly = mount.Readonly
		}
		if err := s.mount(ctx, mount); err != nil {
			return nil, err
		}
	}
	if s.root == nil {
		// Nothing but mounts: an image without layers.
		empty, err := s.worker.states.install(ctx, nil, nil, origin{description: "scratch", kind: client.UsageRecordTypeInternal})
		if err != nil {
			return nil, err
		}
		s.root = s.worker.stateRef(empty)
		s.atEnd = append(s.atEnd, s.root.Release)
	}
	s.config.Image, s.host.ReadonlyRootfs = s.root.id, isReadOnly
	id, runs := s.continued(ctx)
	var warnings []string
	if !runs {
		var err error
		if id, warnings, err = s.worker.backend.CreateContainer(ctx, s.config, s.host); err != nil {
			return nil, backend.Plain(err)
		}
	}
	isLeft := false
	s.atEnd = append(s.atEnd, func(ctx context.Context) error {
		if isLeft {
			return nil
		}
		return s.worker.backend.RemoveContainer(ctx, id)
	})
	if err := s.execute(ctx, id, runs, warnings); err != nil {
		return nil, err
	}
	if isReadOnly {
		return nil, nil
	}
	made, err := s.commit(ctx, id)
	if err != nil {
		return nil, err
	}
	isLeft = s.leave(made, id) || s.removeBehind(id)
	return []solver.Result{bkworker.NewWorkerRefResult(s.worker.stateRef(made), s.worker)}, nil
}

// removeBehind removes the container of a step that is done while the next one begins. Not ok: what the step mounts goes
// after it.
func (s *step) removeBehind(container string) bool {
	if len(s.atEnd) > 1 {
		return false
	}
	s.worker.removeBehind(sessionsOf(s.job.Session()), container)
	return true
}

// environment is the command's, without the secrets that it asks for.
func (s *step) environment() []string {
	environment := slices.Clone(s.op.Meta.Env)
	if !slices.ContainsFunc(environment, func(each string) bool { return strings.HasPrefix(each, "PATH=") }) {
		environment = append(environment, "PATH="+system.DefaultPathEnv("linux"))
	}
	if proxy := s.op.Meta.ProxyEnv; proxy != nil {
		for name, value := range map[string]string{
			"HTTP_PROXY": proxy.HttpProxy, "HTTPS_PROXY": proxy.HttpsProxy, "FTP_PROXY": proxy.FtpProxy,
			"NO_PROXY": proxy.NoProxy, "ALL_PROXY": proxy.AllProxy,
		} {
			if value != "" {
				environment = append(environment, name+"="+value, strings.ToLower(name)+"="+value)
			}
		}
	}
	return environment
}

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

// defaultHostname is BuildKit's: layers do not differ by it from build to build.
const defaultHostname = "buildkitsandbox"

// sharedMemory is where BuildKit mounts a tmpfs for --shm-size.
const sharedMemory = "/dev/shm"

// mountBind shows files of a state, or of the context, as an image that is mounted: neither what lies there nor what is
// written there becomes a part of the step's layer.
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
				// A state that is not removed now is pruned later.
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

// stateOfContext makes a path of a context a state, in which it is answered without links on the way.
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

// mountSecret shows a secret of the build's client, which goes to the container's start alone: it is kept nowhere.
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

// secret asks the build's client for a secret, which it may not have where that is optional.
func (s *step) secret(ctx context.Context, id string, isOptional bool) (content []byte, isGiven bool, err error) {
	err = s.sessions.Any(ctx, s.job.Session(), func(ctx context.Context, _ string, caller session.Caller) (err error) {
		content, err = secrets.GetSecret(ctx, caller, id)
		return err
	})
	if errors.Is(err, secrets.ErrNotFound) && isOptional {
		return nil, false, nil
	}
	return content, err == nil, err
}

// mountCache mounts a volume of the backend that the mount's ID names. `locked` takes turns, `private` gives each step
// that runs at the same time a volume of its own. One with an owner, a mode or a source begins as a directory of a
// state, and is another volume for each.
func (s *step) mountCache(ctx context.Context, mount *pb.Mount) error {
	name := cacheVolume(mount.CacheOpt.GetID())
	var from *ref
	if mount.Input >= 0 {
		input := s.inputs[mount.Input].Sys().(*bkworker.WorkerRef).ImmutableRef
		if files, ok := input.(*ref); ok && !files.isState() {
			return fmt.Errorf("sockerless: RUN --mount=type=cache,target=%s,from=… of a build context is not implemented by the builder: COPY it to a stage and name that", mount.Dest)
		}
		var err error
		if from, err = stateOf(input); err != nil {
			return err
		}
		if path.Join("/", mount.Selector) == "/" {
			return fmt.Errorf("sockerless: RUN --mount=type=cache,target=%s,from=… without a source is not implemented by the builder", mount.Dest)
		}
		name += "-of-" + digest.FromString(from.id + ":" + mount.Selector).Encoded()[:12]
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
		if err := s.worker.fillCache(ctx, volume, from.id, path.Join("/", mount.Selector)); err != nil {
			return err
		}
	}
	s.host.Mounts = append(s.host.Mounts, &backendv1.Mount{
		Type: "volume", Source: volume, Target: mount.Dest, ReadOnly: mount.Readonly,
		VolumeOptions: &backendv1.VolumeOptions{NoCopy: true, Labels: map[string]string{backend.Label: "cache"}},
	})
	return nil
}

func (s *step) execute(ctx context.Context, id string, runs bool, warnings []string) error {
	stdout, stderr, flush := logs.NewLogStreams(ctx, os.Getenv("BUILDKIT_DEBUG_EXEC_OUTPUT") == "1")
	defer stdout.Close()
	defer stderr.Close()
	for _, warning := range warnings {
		fmt.Fprintf(stderr, "warning: %s\n", warning)
	}
	var code int64
	var err error
	if !runs {
		err = s.worker.backend.StartContainer(ctx, id, s.secrets)
	}
	if err == nil {
		forwarding, stop := context.WithCancel(ctx)
		defer stop()
		for _, agent := range s.sshAgents {
			go agent.forward(forwarding, s.worker.backend, id)
		}
		code, err = s.worker.backend.Follow(ctx, id, runs, stdout, stderr)
	}
	if err != nil {
		flush()
		return pkgerrors.Wrapf(backend.Plain(err), "process %q did not complete successfully", strings.Join(s.op.Meta.Args, " "))
	}
	isValid := code == 0
	if len(s.op.Meta.ValidExitCodes) > 0 {
		isValid = slices.Contains(s.op.Meta.ValidExitCodes, int32(code))
	}
	if !isValid {
		flush()
		return pkgerrors.Wrapf(&gatewaypb.ExitError{ExitCode: uint32(code)}, "process %q did not complete successfully", strings.Join(s.op.Meta.Args, " "))
	}
	return nil
}

// commit makes the container's changes a layer above the root's.
func (s *step) commit(ctx context.Context, id string) (record, error) {
	var mountPoints []string
	for _, mount := range s.op.Mounts {
		if mount.Dest != pb.RootMount {
			mountPoints = append(mountPoints, mount.Dest)
		}
	}
	from := origin{parent: s.root.id, description: s.description, kind: client.UsageRecordTypeRegular}
	made, err := s.worker.states.commit(ctx, id, mountPoints, from)
	return made, backend.Plain(err)
}

// cacheVolumes are the volumes of cache mounts.
type cacheVolumes struct {
	// How many steps have each, from before the backend knows of it.
	*holds

	mu sync.Mutex
	// Those that a step has for itself, closed when it gives them back.
	busy map[string]chan struct{}

	filling sync.Mutex
}

func newCacheVolumes() *cacheVolumes {
	return &cacheVolumes{holds: newHolds(), busy: map[string]chan struct{}{}}
}

// fillCache makes a volume of a directory of a state, as a container's new volume takes what its image has there. One
// that exists stays as it is.
func (w *Worker) fillCache(ctx context.Context, volume, image, directory string) error {
	w.caches.filling.Lock()
	defer w.caches.filling.Unlock()
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
	return w.backend.RemoveContainer(context.WithoutCancel(ctx), id)
}

// cacheVolume is how the names of an ID's volumes begin.
func cacheVolume(id string) string {
	return "sockerless-build-" + digest.FromString(id).Encoded()[:24]
}

// take answers the volume of a cache mount, by the name of the first of its ID, and what gives it back. A removal that is
// under way is waited for.
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

// takeAlone takes a volume that no other step has for itself: a private one is the first that is free, else the one of
// the name is waited for.
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
