package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/logs"
	"github.com/moby/buildkit/util/system"
	bkworker "github.com/moby/buildkit/worker"
	pkgerrors "github.com/pkg/errors"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// step is one run of an execOp.
type step struct {
	*execOp
	job    solver.JobContext
	inputs []solver.Result

	root    *ref
	config  *backendv1.ContainerConfig
	host    *backendv1.HostConfig
	secrets backend.Secrets
	// Agents to serve at sockets among the secrets.
	sshAgents []sshAgent
	// Volumes of its cache mounts, by the name of their first ID: a step may mount one at several places.
	caches map[string]string

	container string
	// It runs in the container of an earlier step.
	isContinued bool
	warnings    []string
	// The container waits for the next step, or is removed in the background.
	isLeft bool
	made   *record

	atEnd []func(context.Context) error
}

// run executes the step in this order and returns the resulting state; `end` undoes what each part has put into atEnd,
// in reverse.
func (s *step) run(ctx context.Context) ([]solver.Result, error) {
	s.describe()
	for _, do := range []func(context.Context) error{
		s.askSecrets,
		s.mountAll,
		s.takeRoot,
		s.takeContainer,
		s.execute,
		s.commit,
	} {
		if err := do(ctx); err != nil {
			return nil, err
		}
	}
	if s.made == nil {
		return nil, nil
	}
	s.isLeft = s.leave(*s.made, s.container) || s.removeBehind(s.container)
	return []solver.Result{bkworker.NewWorkerRefResult(s.worker.stateRef(*s.made), s.worker)}, nil
}

// describe sets what the operation alone determines of the container.
func (s *step) describe() {
	meta := s.op.Meta
	s.config = &backendv1.ContainerConfig{
		User: meta.User, WorkingDir: meta.Cwd, Hostname: cmp.Or(meta.Hostname, defaultHostname), Env: s.environment(),
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
}

// askSecrets requests the secrets in the command's environment from the build's client.
func (s *step) askSecrets(ctx context.Context) error {
	for _, each := range s.op.Secretenv {
		content, _, err := s.secret(ctx, each.ID, each.Optional)
		if err != nil {
			return err
		}
		s.secrets.Env = append(s.secrets.Env, each.Name+"="+string(content))
	}
	return nil
}

// mountAll mounts caches in the order of their volumes: all steps lock their caches in one order, so that no two wait for
// each other.
func (s *step) mountAll(ctx context.Context) error {
	order, volumes := map[string]int{}, map[*pb.Mount]string{}
	for at, mount := range s.op.Mounts {
		order[mount.Dest] = at
		if mount.MountType == pb.MountType_CACHE {
			volume, _, err := s.volumeOf(mount)
			if err != nil {
				return err
			}
			volumes[mount] = volume
		}
	}
	mounts := slices.Clone(s.op.Mounts)
	slices.SortStableFunc(mounts, func(a, b *pb.Mount) int { return cmp.Compare(volumes[a], volumes[b]) })
	for _, mount := range mounts {
		if mount.Dest == pb.RootMount {
			s.host.ReadonlyRootfs = mount.Readonly
		}
		if err := s.mount(ctx, mount); err != nil {
			return err
		}
	}
	slices.SortStableFunc(s.host.Mounts, func(a, b *backendv1.Mount) int { return cmp.Compare(order[a.Target], order[b.Target]) })
	return nil
}

// takeRoot uses an image without layers if the step has only mounts.
func (s *step) takeRoot(ctx context.Context) error {
	if s.root == nil {
		empty, err := s.worker.states.install(ctx, nil, nil, origin{description: "scratch", kind: client.UsageRecordTypeInternal})
		if err != nil {
			return err
		}
		s.root = s.worker.stateRef(empty)
		s.atEnd = append(s.atEnd, s.root.Release)
	}
	s.config.Image = s.root.id
	return nil
}

// takeContainer starts the command in the container of an earlier step of its stage, or else creates a container.
func (s *step) takeContainer(ctx context.Context) error {
	s.container, s.isContinued = s.continued(ctx)
	if !s.isContinued {
		var err error
		if s.container, s.warnings, err = s.worker.backend.CreateContainer(ctx, s.config, s.host); err != nil {
			return backend.Plain(err)
		}
	}
	s.atEnd = append(s.atEnd, func(ctx context.Context) error {
		if s.isLeft {
			return nil
		}
		if err := s.worker.backend.RemoveContainer(ctx, s.container); err != nil {
			Warn("remove the container of a step", err) // The step has ended nevertheless.
			s.worker.removeBehind(SessionsOf(s.job.Session()), s.container)
		}
		return nil
	})
	return nil
}

// execute starts the command, unless it already runs, and follows it to its end.
func (s *step) execute(ctx context.Context) error {
	stdout, stderr, flush := logs.NewLogStreams(ctx, os.Getenv("BUILDKIT_DEBUG_EXEC_OUTPUT") == "1")
	defer stdout.Close()
	defer stderr.Close()
	for _, warning := range s.warnings {
		fmt.Fprintf(stderr, "warning: %s\n", warning)
	}
	var code int64
	var err error
	if !s.isContinued {
		err = s.worker.backend.StartContainer(ctx, s.container, s.secrets)
	}
	if err == nil {
		forwarding, stop := context.WithCancel(ctx)
		defer stop()
		container := s.container
		for _, agent := range s.sshAgents {
			go agent.forward(forwarding, func() (io.ReadWriteCloser, error) {
				return s.worker.backend.AcceptAt(forwarding, container, agent.socket)
			})
		}
		code, err = s.worker.backend.Follow(ctx, s.container, s.isContinued, stdout, stderr)
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

// commit turns the container's changes into a layer on top of the root's; a read-only root has none.
func (s *step) commit(ctx context.Context) error {
	if s.host.ReadonlyRootfs {
		return nil
	}
	var mountPoints []string
	for _, mount := range s.op.Mounts {
		if mount.Dest != pb.RootMount {
			mountPoints = append(mountPoints, mount.Dest)
		}
	}
	from := origin{parent: s.root.id, description: s.description, kind: client.UsageRecordTypeRegular}
	made, err := s.worker.states.commit(ctx, s.container, mountPoints, from)
	if err != nil {
		return backend.Plain(err)
	}
	s.made = &made
	return nil
}

// removeBehind removes the container of a finished step while the next one starts. Not ok: its mounts must be released
// after it.
func (s *step) removeBehind(container string) bool {
	if len(s.atEnd) > 1 {
		return false
	}
	s.worker.removeBehind(SessionsOf(s.job.Session()), container)
	return true
}

func (s *step) end(ctx context.Context) error {
	var err error
	for _, each := range slices.Backward(s.atEnd) {
		err = errors.Join(err, each(ctx))
	}
	return err
}

// environment is the command's environment, without its secrets.
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

// defaultHostname is BuildKit's, a constant so that layers do not differ between builds.
const defaultHostname = "buildkitsandbox"

// resourcesOf converts BuildKit's limits of a process to a container's.
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

// extraHost formats a host for a backend.
func extraHost(name, address string) string {
	if address == HostGateway {
		address = "host-gateway"
	}
	return name + ":" + address
}
