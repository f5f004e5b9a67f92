package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/mounts"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// canBeKept reports whether a launch uses nothing but its root and its network,
// so that another one can reuse its sandbox. The shim decides about everything
// else.
func canBeKept(request *hostv1.LaunchContainerRequest) bool {
	switch request.GetNetwork().GetKind().(type) {
	case *hostv1.NetworkNamespace_None, *hostv1.NetworkNamespace_Bridged:
	default:
		return false
	}
	return !request.Tty && !request.Init && !request.IpcShareable && request.PidContainerId == "" && request.IpcContainerId == "" &&
		len(request.Ports)+len(request.DockerSockets)+len(request.BindSources)+len(request.ImageMounts)+
			len(request.Secrets)+len(request.SecretEnv) == 0
}

// isKept reports whether the shim of an ended generation waits for another.
func (l *launched) isKept() bool { return l.alive && l.exited() && l.ready.Keeps }

// networkGeneration is the generation for which the network was created.
func (l *launched) networkGeneration() uint64 {
	if l.spec.NetworkGeneration != 0 {
		return l.spec.NetworkGeneration
	}
	return l.spec.Generation
}

// continueRun prepares the next generation for the last one's shim.
func (c *Containers) continueRun(
	ctx context.Context, request *hostv1.LaunchContainerRequest, paths shimspec.ContainerPaths, last *launched,
) (_ *hostv1.LaunchContainerResponse, err error) {
	if !last.isKept() || request.Generation <= last.spec.Generation || !canBeKept(request) || c.viewed(request.ContainerId) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("nothing is kept that container %s could run in", request.ContainerId))
	}
	l := &launch{Containers: c, request: request, paths: paths}
	defer l.closeRoot()
	defer func() {
		if err != nil { // as after any failed launch
			err = errors.Join(err, c.release(context.WithoutCancel(ctx), request.ContainerId, paths, last, noNextGeneration))
		}
	}()
	if l.runtime, err = c.runtime(ctx); err != nil {
		return nil, err
	}
	if err := c.renewFiles(paths, request.LayerDiffIds); err != nil {
		return nil, err
	}
	faultpoint.Reached("host.continue.renewed")
	l.spec = l.shimSpec()
	l.spec.NetworkGeneration = last.networkGeneration()
	if err := l.prepareFiles(ctx); err != nil {
		return nil, err
	}
	if working := workingDirectory(request.OciSpec); working != "" {
		// As the runtime does.
		directory, err := l.root.MakeDirectories(working, nil)
		if err != nil {
			return nil, fmt.Errorf("make the working directory %s: %w", working, err)
		}
		unix.Close(directory)
	}
	// The process does not exist yet: nobody can join it.
	ready := last.ready
	ready.Generation, ready.PID = request.Generation, 0
	// In this order: a generation with both files can be started, one with only
	// the first has not been launched.
	if err := jsonfile.Write(paths.ReadyRecord(), ready); err != nil {
		return nil, err
	}
	faultpoint.Reached("host.continue.ready")
	if err := jsonfile.Write(paths.Spec(), l.spec); err != nil {
		return nil, err
	}
	faultpoint.Reached("host.continue.specified")
	return launchResponse(l.spec, ready), nil
}

// renewFiles gives a container these layers, without changes.
func (c *Containers) renewFiles(paths shimspec.ContainerPaths, diffIDs []string) error {
	record, err := readRootRecord(paths)
	if err != nil {
		return err
	}
	stack, err := c.layers.Stack(diffIDs)
	if err != nil {
		return err
	}
	// The namespaces that the shim keeps have it mounted, too.
	if err := errors.Join(mounts.DropCaches(paths.Merged()), mounts.Unmount(paths.Merged())); err != nil {
		return err
	}
	// Processes of earlier generations may have changed the owners of name files.
	for _, directory := range []string{paths.Upper(), paths.Work(), paths.WrittenToImages(), paths.Files()} {
		if _, err := os.Lstat(directory); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := c.trash.Discard(directory); err != nil {
			return err
		}
	}
	if err := makeDirectories(paths); err != nil {
		return err
	}
	if err := takeRootAttributes(paths.Upper(), stack.RootSource); err != nil {
		return err
	}
	record.Layers = diffIDs
	return jsonfile.WriteSoonDurable(rootRecordPath(paths), record)
}

// renewIfChanged calls renewFiles if the container's image has changed, when a
// build's next step needs its own launch after all.
func (c *Containers) renewIfChanged(request *hostv1.LaunchContainerRequest, paths shimspec.ContainerPaths) error {
	if !request.Keep {
		return nil
	}
	record, err := readRootRecord(paths)
	if err != nil || slices.Equal(record.Layers, request.LayerDiffIds) {
		return err
	}
	return c.renewFiles(paths, request.LayerDiffIds)
}

// workingDirectory is the cwd of a configuration's process.
func workingDirectory(config []byte) string {
	var spec struct {
		Process struct {
			Cwd string `json:"cwd"`
		} `json:"process"`
	}
	_ = json.Unmarshal(config, &spec) // parsed by completeConfig
	return spec.Process.Cwd
}
