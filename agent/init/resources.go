package containerinit

import (
	"context"
	"errors"
	"os"
	"slices"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/processes"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/usage"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// Meter opens readings of the running container, including the agent's own use if
// the platform counts it.
func (c *container) Meter(context.Context) (server.Meter, error) {
	main := c.launcher.running()
	if main == nil {
		return nil, session.ErrNotRunning
	}
	group, err := usage.OwnCgroup()
	if err != nil {
		return nil, err
	}
	self := os.Getpid()
	m := usage.Meter{Cgroup: group, NetworkOf: self, Ended: main.Done()}
	if !group.Readable() {
		m.DescendantsOf = self
	}
	return m, nil
}

// Top lists the container's processes; the image need not have ps.
func (c *container) Top(_ context.Context, psArguments string) (*agentv1.TopResponse, error) {
	if err := usage.CheckPsArguments(psArguments); err != nil {
		return nil, err
	}
	if c.launcher.running() == nil {
		return nil, session.ErrNotRunning
	}
	all, err := processes.Descendants(os.Getpid())
	if err != nil {
		return nil, err
	}
	titles, rows, err := processes.Table(all, psArguments)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(titles, "PID") {
		return nil, errors.New("Couldn't find PID field in ps output")
	}
	table := &agentv1.TopResponse{Titles: titles}
	for _, row := range rows {
		table.Processes = append(table.Processes, &agentv1.ProcessRow{Columns: row})
	}
	return table, nil
}

// Update fails: only the platform sets the limits.
func (c *container) Update(context.Context, []byte) error {
	return connect.NewError(connect.CodeUnimplemented, errors.New("the limits of a cloud container are the platform's: they cannot be changed while it runs"))
}
