package containers

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sockerless/sockerless/agent/host/network"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// List returns the containers found on disk, and what remains of each: those of
// wanted, or all if it is empty.
func (c *Containers) List(wanted []string) ([]*hostv1.ContainerOnDisk, error) {
	ids := wanted
	if len(ids) == 0 {
		var err error
		if ids, err = c.ids(); err != nil {
			return nil, err
		}
	}
	found := make([]*hostv1.ContainerOnDisk, 0, len(ids))
	for _, id := range ids {
		container, err := c.inspect(id)
		if errors.Is(err, os.ErrNotExist) { // removed meanwhile, or never there
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", id, err)
		}
		if container.ShimAlive && len(wanted) == 0 {
			if container.Addresses, err = network.Addresses(c.layout.NetworkNamespace(id)); err != nil {
				slog.Warn("the addresses of a container cannot be read", "container", id, "error", err)
			}
		}
		found = append(found, container)
	}
	return found, nil
}

func (c *Containers) ids() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.layout.StateDir, "containers"))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, entry := range entries {
		if idPattern().MatchString(entry.Name()) {
			ids = append(ids, entry.Name())
		}
	}
	return ids, nil
}

// isUnfinished reports whether the record that Create writes last is missing. A
// damaged one was written.
func (c *Containers) isUnfinished(id string, last *launched) bool {
	_, err := os.Lstat(rootRecordPath(c.layout.Container(id)))
	return last.spec.Generation == 0 && errors.Is(err, os.ErrNotExist)
}

// inspect describes a container; os.ErrNotExist: it is not there.
func (c *Containers) inspect(id string) (*hostv1.ContainerOnDisk, error) {
	paths, err := c.paths(id)
	if err != nil {
		return nil, err
	}
	last, err := readLaunched(paths)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(paths.Dir); err != nil { // one without records has never been launched
		return nil, err
	}
	container := &hostv1.ContainerOnDisk{
		ContainerId: id, Generation: last.spec.Generation, ShimAlive: last.alive, Unfinished: c.isUnfinished(id, last),
	}
	if last.alive {
		container.AgentSocket = last.spec.AgentSocket
		container.BoundPorts = boundPorts(last.ready)
	}
	if last.begun.Generation != 0 {
		container.BegunAt = timestamppb.New(last.begun.At)
	}
	if last.exited() {
		container.LastState = &agentv1.ContainerState{}
		// A newer shim may have written fields that we do not know.
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(last.exit.State, container.LastState); err != nil {
			slog.Warn("a damaged exit record is not believed", "container", id, "error", err)
			container.LastState = nil
		}
	}
	return container, nil
}
