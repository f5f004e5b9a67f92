package containers

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/names"
	"github.com/sockerless/sockerless/agent/host/network"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Connect connects a running container to another network. See the contract.
func (c *Containers) Connect(ctx context.Context, request *hostv1.ConnectContainerRequest) error {
	return c.rewire(ctx, request.ContainerId, request.Names, func(namespace network.Namespace) error {
		return c.network.Connect(namespace, interfaceOf(request.GetInterface()), request.DefaultGateway)
	})
}

// Disconnect disconnects a running container from a bridge.
func (c *Containers) Disconnect(ctx context.Context, request *hostv1.DisconnectContainerRequest) error {
	return c.rewire(ctx, request.ContainerId, request.Names, func(namespace network.Namespace) error {
		return c.network.Disconnect(namespace, request.Bridge, request.DefaultGateway)
	})
}

func (c *Containers) rewire(ctx context.Context, id string, names *hostv1.NameFileChange, change func(network.Namespace) error) error {
	paths, unlock, err := c.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	last, err := readLaunched(paths)
	if err != nil {
		return err
	}
	if err := last.requireWhole(paths); err != nil {
		return err
	}
	own := c.layout.NetworkNamespace(id)
	if !last.runs() || last.spec.NetworkNamespace != own {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("the container has no network of its own that runs"))
	}
	if err := change(network.Namespace{ContainerID: id, Generation: last.networkGeneration(), Path: own}); err != nil {
		return err
	}
	return changeNameFiles(paths, names)
}

// changeNameFiles edits in place, because the files are bound into the container.
// A missing file is not managed.
func changeNameFiles(paths shimspec.ContainerPaths, change *hostv1.NameFileChange) error {
	hosts := filepath.Join(paths.Files(), "hosts")
	err := editFile(hosts, func(content []byte) []byte {
		lines := slices.DeleteFunc(strings.SplitAfter(string(content), "\n"), func(line string) bool {
			fields := strings.Fields(line)
			return change.GetRemoveHost() != "" && len(fields) > 0 && fields[0] == change.RemoveHost
		})
		if line := change.GetAddHost(); line != "" && !slices.Contains(lines, line+"\n") {
			if last := len(lines) - 1; last >= 0 && lines[last] != "" {
				lines[last] += "\n"
			}
			lines = append(lines, line+"\n")
		}
		return []byte(strings.Join(lines, ""))
	})
	if err != nil || len(change.GetResolvConf()) == 0 {
		return err
	}
	return editFile(filepath.Join(paths.Files(), "resolv.conf"), func(content []byte) []byte {
		if !bytes.Equal(content, change.ResolvConfBefore) {
			return content
		}
		return change.ResolvConf
	})
}

func editFile(path string, change func(content []byte) []byte) error {
	content, err := names.ReadNameFile(path)
	if err != nil || content == nil {
		return err
	}
	changed := change(content)
	if bytes.Equal(content, changed) {
		return nil
	}
	return names.RewriteFile(path, content, changed)
}
