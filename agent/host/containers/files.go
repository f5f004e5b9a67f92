package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/volumes"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// ensureBindSources creates missing directories where the request says so.
// NOT_FOUND names the first other missing source. INVALID_ARGUMENT: a source lies
// in a volume that must not be bound.
func (l *launch) ensureBindSources(ctx context.Context) error {
	if len(l.request.BindSources) == 0 {
		return nil
	}
	binds, err := l.volumes.CheckBinds()
	if err != nil {
		return err
	}
	var sources []bindSource
	for _, source := range l.request.BindSources {
		sources = append(sources, bindSource{source.Path, source.Create})
	}
	for _, source := range distinct(sources) {
		if err := l.userPaths.Do(ctx, source.path, func() error { return source.ensure(binds) }); err != nil {
			return err
		}
	}
	return nil
}

// bindSource is a [hostv1.BindSource].
type bindSource struct {
	path   string
	create bool
}

func (b bindSource) ensure(binds *volumes.BindCheck) error {
	if err := binds.Refuse(b.path); err != nil {
		return err
	}
	_, err := os.Stat(b.path)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !b.create {
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("bind source path does not exist: %s", b.path))
	}
	if err := os.MkdirAll(b.path, 0o755); err != nil {
		return fmt.Errorf("create bind source: %w", err)
	}
	return nil
}

// writeManagedFiles writes the request's files beside the container and returns
// their mounts. They are writable unless the container's root is read-only, as in
// Docker.
func (l *launch) writeManagedFiles() ([]ociMount, error) {
	options := []string{"rbind", "rprivate"}
	if readOnlyRoot(l.request.OciSpec) {
		options = append(options, "ro")
	}
	added := l.sharedNameFiles(options)
	written := map[string]bool{}
	for _, file := range l.request.Files {
		base := path.Base(path.Clean("/" + file.ContainerPath))
		if base == "/" || written[base] {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("managed file %q: no name of its own", file.ContainerPath))
		}
		written[base] = true
		name := filepath.Join(l.paths.Files(), base)
		mode := os.FileMode(file.Mode).Perm()
		// Not in place: a container that shares the network may hold a lease on the last one.
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("replace managed file: %w", err)
		}
		if err := os.WriteFile(name, file.Content, mode); err != nil {
			return nil, fmt.Errorf("write managed file: %w", err)
		}
		if err := os.Chmod(name, mode); err != nil { // an earlier launch or our umask may have set another mode
			return nil, fmt.Errorf("write managed file: %w", err)
		}
		if base == "hostname" {
			var err error
			if name, err = l.linkHostname(name); err != nil {
				return nil, err
			}
		}
		added = append(added, ociMount{file.ContainerPath, "bind", name, options})
	}
	return added, nil
}

// linkHostname links the hostname's file to /containers/<ID>/hostname, Docker's
// path, and returns that: programs such as Jenkins read their container's ID from
// it in mountinfo.
func (l *launch) linkHostname(name string) (string, error) {
	link := filepath.Join(l.paths.Dir, "hostname")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("link the hostname's file: %w", err)
	}
	if err := os.Link(name, link); err != nil {
		return "", fmt.Errorf("link the hostname's file: %w", err)
	}
	return link, nil
}

// sharedNameFiles mounts the name files of the container whose network this one
// shares: both resolve the same names.
func (l *launch) sharedNameFiles(options []string) []ociMount {
	id := l.request.GetNetwork().GetContainerId()
	owner, err := l.Containers.paths(id)
	if id == "" || err != nil {
		return nil
	}
	var added []ociMount
	for _, base := range []string{"hostname", "hosts", "resolv.conf"} {
		name := filepath.Join(owner.Files(), base)
		if _, err := os.Lstat(name); err == nil && !mountsOver(l.request.OciSpec, "/etc/"+base) {
			added = append(added, ociMount{"/etc/" + base, "bind", name, options})
		}
	}
	return added
}

// mountsOver reports whether the configuration itself mounts something at
// destination.
func mountsOver(config []byte, destination string) bool {
	var spec struct {
		Mounts []struct {
			Destination string `json:"destination"`
		} `json:"mounts"`
	}
	if json.Unmarshal(config, &spec) != nil {
		return false
	}
	for _, mount := range spec.Mounts {
		if path.Clean(mount.Destination) == destination {
			return true
		}
	}
	return false
}

// dockerSocketMounts bind the shim's Docker sockets into the container.
func (l *launch) dockerSocketMounts() []ociMount {
	var added []ociMount
	for i, socket := range l.request.DockerSockets {
		added = append(added, ociMount{socket.ContainerPath, "bind", dockerSocket(l.paths, i), []string{"bind", "rprivate"}})
	}
	return added
}

func dockerSocket(paths shimspec.ContainerPaths, index int) string {
	return filepath.Join(paths.Run, fmt.Sprintf("docker%d.sock", index))
}

// shimSpec is the shim's specification, except for the network namespace.
func (l *launch) shimSpec() shimspec.Spec {
	request, paths := l.request, l.paths
	spec := shimspec.Spec{
		Version: shimspec.Version, ContainerID: request.ContainerId, Generation: request.Generation,
		Runtime: l.runtime.Path, RuntimeRoot: l.runtime.Root, Bundle: paths.Bundle(), Rootfs: paths.Merged(),
		AgentSocket: paths.AgentSocket(), ReadyRecord: paths.ReadyRecord(), ExitRecord: paths.ExitRecord(), LogDir: paths.Log(),
		Keep: request.Keep && canBeKept(request),
		TTY:  request.Tty, OpenStdin: request.OpenStdin, StdinOnce: request.StdinOnce,
		Log: shimspec.LogSettings{
			Disabled: request.GetLog().GetDisabled(), MaxSize: request.GetLog().GetMaxSize(), MaxFiles: request.GetLog().GetMaxFiles(),
			BufferSize: bufferSize(request.Log),
		},
	}
	if size := request.ConsoleSize; size != nil {
		spec.ConsoleSize = &shimspec.ConsoleSize{Height: size.Height, Width: size.Width}
	}
	for _, variable := range request.SecretEnv {
		name, _, _ := strings.Cut(variable, "=")
		spec.SecretEnv = append(spec.SecretEnv, name)
	}
	for _, port := range request.Ports {
		spec.Ports = append(spec.Ports, shimspec.PublishedPort{
			Protocol: port.Protocol, HostIP: port.HostIp, HostPort: port.HostPort, HostPortEnd: port.HostPortEnd,
			ContainerPort: port.ContainerPort, ContainerIP: port.ContainerIp,
		})
	}
	for i, socket := range request.DockerSockets {
		spec.DockerSockets = append(spec.DockerSockets, shimspec.DockerSocket{
			Listen: dockerSocket(paths, i), Forward: socket.FrontendSocket,
		})
	}
	return spec
}

func bufferSize(log *hostv1.LogSettings) *uint64 {
	if log == nil {
		return nil
	}
	return log.BufferSize
}
