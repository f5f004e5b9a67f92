// Package containers prepares the containers of one instance for their shims and
// cleans up after them. It keeps no state except the files described in
// docs/formats.md, the kernel's mounts and namespaces, and the runtime's records.
package containers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/keylock"
	"github.com/sockerless/sockerless/agent/host/layers"
	"github.com/sockerless/sockerless/agent/host/network"
	"github.com/sockerless/sockerless/agent/host/ociruntime"
	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// Containers implements all operations on containers. Calls for one container are
// serialised; calls for others run concurrently.
type Containers struct {
	layout    shimspec.Layout
	layers    *layers.Store
	network   *network.Instance
	trash     *trash.Can
	volumes   *volumes.Store
	userPaths *userpaths.Looks
	agentPath string
	runtime   func(context.Context) (ociruntime.Runtime, error)

	locks   keylock.Locks // by container ID
	seeding keylock.Locks // by volume path, during seeding
	views   *views
}

// Options configure Containers.
type Options struct {
	Layout  shimspec.Layout
	Layers  *layers.Store
	Network *network.Instance
	Trash   *trash.Can
	Volumes *volumes.Store
	// UserPaths looks at the sources of binds.
	UserPaths *userpaths.Looks
	// AgentPath is the executable of shims.
	AgentPath string
	// Runtime returns the OCI runtime once it has been probed.
	Runtime func(context.Context) (ociruntime.Runtime, error)
}

// New creates the containers' directories.
func New(options Options) (*Containers, error) {
	for _, dir := range []string{
		filepath.Join(options.Layout.StateDir, "containers"),
		filepath.Join(options.Layout.RunDir, "c"),
		options.Layout.RuntimeRoot(),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return &Containers{
		layout: options.Layout, layers: options.Layers, network: options.Network, trash: options.Trash, volumes: options.Volumes,
		userPaths: options.UserPaths, agentPath: options.AgentPath, runtime: options.Runtime, views: newViews(),
	}, nil
}

var idPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}$`) })

// paths validates id, since it becomes part of paths.
func (c *Containers) paths(id string) (shimspec.ContainerPaths, error) {
	if !idPattern().MatchString(id) {
		return shimspec.ContainerPaths{}, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not a container ID", id))
	}
	return c.layout.Container(id), nil
}

// lock locks a container for one call.
func (c *Containers) lock(ctx context.Context, id string) (paths shimspec.ContainerPaths, unlock func(), err error) {
	if paths, err = c.paths(id); err != nil {
		return paths, nil, err
	}
	unlock, err = c.locks.Lock(ctx, id)
	return paths, unlock, err
}
