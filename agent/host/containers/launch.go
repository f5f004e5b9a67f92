package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/core/identity"
	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/nested"
	"github.com/sockerless/sockerless/agent/host/ociruntime"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Launch does everything that can fail before a container's process runs, and
// starts its shim. See the contract for repetition and errors.
func (c *Containers) Launch(ctx context.Context, request *hostv1.LaunchContainerRequest) (*hostv1.LaunchContainerResponse, error) {
	paths, unlock, err := c.lock(ctx, request.ContainerId)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := validateLaunch(paths, request); err != nil {
		return nil, err
	}
	last, err := readLaunched(paths)
	if err != nil {
		return nil, err
	}
	if last.alive && last.ready.Generation == request.Generation {
		return launchResponse(last.spec, last.ready), nil
	}
	if request.Continues {
		return c.continueRun(ctx, request, paths, last)
	}
	if err := c.releaseEarlier(ctx, request, paths, last); err != nil {
		return nil, err
	}
	if err := c.renewIfChanged(request, paths); err != nil {
		return nil, err
	}
	l := &launch{Containers: c, request: request, paths: paths}
	ready, err := l.run(ctx)
	if err != nil {
		return nil, err
	}
	return launchResponse(l.spec, ready), nil
}

func validateLaunch(paths shimspec.ContainerPaths, request *hostv1.LaunchContainerRequest) error {
	if request.Generation == 0 {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("generations count from 1"))
	}
	_, err := readRootRecord(paths)
	if connect.CodeOf(err) == connect.CodeNotFound {
		err = connect.NewError(connect.CodeNotFound, fmt.Errorf("container %s is not created", request.ContainerId))
	}
	return err
}

// releaseEarlier releases what an earlier generation left.
func (c *Containers) releaseEarlier(ctx context.Context, request *hostv1.LaunchContainerRequest, paths shimspec.ContainerPaths, last *launched) error {
	switch {
	case (last.exited() || last.begun.Generation != 0) && last.spec.Generation == request.Generation:
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("generation %d has run already", request.Generation))
	case last.alive && !last.exited():
		return connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("generation %d is running", last.spec.Generation))
	}
	if _, err := os.Lstat(paths.Run); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return c.release(ctx, request.ContainerId, paths, last, nextGeneration)
}

// launch is one launch in progress.
type launch struct {
	*Containers
	request *hostv1.LaunchContainerRequest
	paths   shimspec.ContainerPaths
	runtime ociruntime.Runtime
	spec    shimspec.Spec
	parts   []volumePart
	donors  []*donor
	root    *confined.Root // the container's overlay, once it is mounted
	shim    *exec.Cmd      // once it is started
}

func (l *launch) run(ctx context.Context) (ready shimspec.Readiness, err error) {
	if l.runtime, err = l.Containers.runtime(ctx); err != nil {
		return ready, err
	}
	defer l.closeVolumeParts()
	defer l.closeDonors()
	defer l.closeRoot()
	defer l.reapShim()
	defer func() {
		if err != nil {
			l.undo()
		}
	}()
	if err := os.Mkdir(l.paths.Run, 0o700); err != nil {
		return ready, err
	}
	l.spec = l.shimSpec()
	faultpoint.Reached("host.launch.run-directory")
	shim, err := l.startShim()
	if err != nil {
		return ready, err
	}
	defer shim.close()
	networked := make(chan error, 1)
	go func() { networked <- l.makeNetwork() }()
	prepareErr := l.prepareFiles(ctx)
	if err := cmp.Or(prepareErr, <-networked); err != nil {
		return ready, err
	}
	faultpoint.Reached("host.launch.prepared")
	if err := jsonfile.Write(l.paths.Spec(), l.spec); err != nil {
		return ready, err
	}
	faultpoint.Reached("host.launch.specified")
	ready, err = shim.ready(ctx)
	if err := cmp.Or(l.requireDonors(), err); err != nil {
		return ready, err
	}
	return ready, l.verifyVolumeParts(ready.PID)
}

// prepareFiles prepares everything but the network.
func (l *launch) prepareFiles(ctx context.Context) error {
	config, err := l.prepareConfig(ctx)
	if err != nil {
		return err
	}
	return l.writeConfig(config)
}

// prepareConfig prepares everything that the OCI configuration refers to, and
// returns the configuration.
func (l *launch) prepareConfig(ctx context.Context) (config []byte, err error) {
	if l.spec.NetworkNamespace, err = l.networkNamespace(); err != nil {
		return nil, err
	}
	if err := l.makeSharedMemory(); err != nil {
		return nil, err
	}
	joined, err := l.joinNamespaces()
	if err != nil {
		return nil, err
	}
	images, err := l.mountImages()
	if err != nil {
		return nil, err
	}
	if err := l.ensureBindSources(ctx); err != nil {
		return nil, err
	}
	if err := l.openVolumes(ctx); err != nil {
		return nil, err
	}
	if err := l.mountRoot(); err != nil {
		return nil, err
	}
	faultpoint.Reached("host.launch.mounted")
	user, err := l.lookUpUser()
	if err != nil {
		return nil, err
	}
	added, err := l.writeManagedFiles()
	if err != nil {
		return nil, err
	}
	secrets, err := l.mountSecrets()
	if err != nil {
		return nil, err
	}
	added = append(added, secrets...)
	facts := machineFacts{
		rootfs: l.paths.Merged(), root: l.root, user: user, namespaces: joined, sharedMemory: l.spec.SharedMemory, images: images,
		env: l.request.SecretEnv, cgroupsPath: l.layout.Cgroup(l.request.ContainerId), mounts: append(added, l.dockerSocketMounts()...),
	}
	if l.request.Init {
		if facts.initExecutable, err = os.Readlink(l.agentPath); err != nil {
			facts.initExecutable, err = l.agentPath, nil // a path, not a link to one
		}
	}
	facts.hook = l.nestedHook()
	config, inBinds, err := completeConfig(ctx, l.request.OciSpec, facts)
	for i, mount := range inBinds.Mounts {
		inBinds.Mounts[i].Volume = l.volumes.PartOf(mount.Source)
	}
	if err == nil && !inBinds.IsEmpty() {
		err = jsonfile.Write(l.paths.Nested(), inBinds)
	}
	return config, err
}

// nestedHook is run while this process waits for the shim, and cannot use
// /proc/self.
func (l *launch) nestedHook() ociHook {
	own := fmt.Sprintf("/proc/%d/", os.Getpid())
	return ociHook{
		Path: strings.Replace(l.agentPath, "/proc/self/", own, 1),
		Args: []string{"sockerless-agent", nested.Name, l.paths.Nested(), l.paths.Merged()},
	}
}

func (l *launch) mountRoot() error {
	stack, err := l.layers.ContainerStack(l.request.LayerDiffIds)
	if err != nil {
		return err
	}
	l.spec.Upper, l.spec.Lower = l.paths.Upper(), stack.Lower
	if err := l.Containers.mountRoot(l.paths, stack.Lower); err != nil {
		return err
	}
	if l.root, err = confined.Open(l.paths.Merged()); err != nil {
		return err
	}
	return archive.RestoreMountPoints(int(l.root.Directory().Fd()))
}

// mountRoot mounts the container's overlay if it is not mounted.
func (c *Containers) mountRoot(paths shimspec.ContainerPaths, lower []string) error {
	mounted, err := mounts.IsMountPoint(paths.Merged())
	if err != nil || mounted {
		return err
	}
	return mounts.Overlay{Lower: lower, Upper: paths.Upper(), Work: paths.Work()}.Mount(paths.Merged())
}

func (l *launch) closeRoot() {
	if l.root != nil {
		l.root.Close()
	}
}

func (l *launch) lookUpUser() (identity.Identity, error) {
	root := l.root.Directory()
	user, err := identity.ResolveIn(root, l.request.User, l.request.AdditionalGroups)
	if err == nil {
		err = identity.CheckForRuntime(root, user.AdditionalGIDs)
	}
	if err == nil {
		err = l.checkUsersFiles()
	}
	if err != nil {
		return user, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return user, nil
}

// checkUsersFiles refuses passwd and group files that link into the kernel's file
// systems. The OCI runtime reads them before it is confined and before the
// container's own are mounted, so it would reach the machine's, and never finish
// reading the kernel's log, for example.
func (l *launch) checkUsersFiles() error {
	for _, name := range []string{"/etc/passwd", "/etc/group"} {
		resolved, err := l.root.Resolve(name, func(string) bool { return false })
		if err != nil {
			return fmt.Errorf("follow the container's %s: %w", name, err)
		}
		for _, kernels := range []string{"/dev/", "/proc/", "/sys/"} {
			if strings.HasPrefix(resolved, kernels) && resolved != os.DevNull {
				return fmt.Errorf("the container's %s leads to %s", name, resolved)
			}
		}
	}
	return nil
}

// undo removes everything of a failed launch. Its own failure is only logged: the
// caller gets the launch's error.
func (l *launch) undo() {
	ctx := context.Background()
	last, err := readLaunched(l.paths)
	if err != nil || last.spec.Generation != l.request.Generation {
		// It failed before shim.json was written.
		last = &launched{spec: l.spec}
	}
	if l.shim != nil {
		last.child = l.shim.Process.Pid
	}
	err = l.release(ctx, l.request.ContainerId, l.paths, last, noNextGeneration)
	stale := []string{l.paths.Spec()}
	// A ready shim records our kill as an exit, although this generation has not
	// run and may be launched again.
	if after, readErr := readLaunched(l.paths); readErr == nil && after.exit.Generation == l.request.Generation {
		stale = append(stale, l.paths.ExitRecord())
	}
	for _, path := range stale {
		if removeErr := os.Remove(path); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	if err != nil {
		slog.Error("a failed launch left something behind", "container", l.request.ContainerId, "error", err)
	}
}

func launchResponse(spec shimspec.Spec, ready shimspec.Readiness) *hostv1.LaunchContainerResponse {
	return &hostv1.LaunchContainerResponse{
		AgentSocket: spec.AgentSocket, Pid: int64(ready.PID),
		BoundPorts: boundPorts(ready), NetworkNamespace: spec.NetworkNamespace,
	}
}

func boundPorts(ready shimspec.Readiness) []*hostv1.BoundPort {
	var bound []*hostv1.BoundPort
	for _, port := range ready.BoundPorts {
		bound = append(bound, &hostv1.BoundPort{
			Protocol: port.Protocol, HostIp: port.HostIP, HostPort: port.HostPort, ContainerPort: port.ContainerPort,
		})
	}
	return bound
}
