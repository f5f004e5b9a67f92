package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/usage"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// psOutputLimit bounds how much of ps's output is read: the container chooses its
// arguments, which may be long.
const psOutputLimit = 2 << 20

// Meter opens the readings of the running container.
func (a *agent) Meter(context.Context) (server.Meter, error) {
	c := a.container
	if c.hasEnded() {
		return nil, session.ErrNotRunning
	}
	main := c.main().child
	reader := usage.Meter{Cgroup: c.current.Load().cgroup, Ended: main.Done()}
	if c.spec.NetworkNamespace != "" {
		reader.NetworkOf = main.PID()
	}
	return reader, nil
}

// Top lists the container's processes with the machine's ps, as dockerd does:
// most images have none.
func (a *agent) Top(_ context.Context, psArguments string) (*agentv1.TopResponse, error) {
	c := a.container
	if err := usage.CheckPsArguments(psArguments); err != nil {
		return nil, err
	}
	if c.hasEnded() {
		return nil, session.ErrNotRunning
	}
	pids, err := c.current.Load().cgroup.Processes()
	if err != nil {
		return nil, err
	}
	output, err := c.runPs(usage.PsArguments(psArguments, pids))
	if err != nil {
		output, err = c.runPs(usage.PsArguments(psArguments, nil))
	}
	if err != nil {
		return nil, err
	}
	return usage.ProcessTable(output, pids)
}

// Update changes the limits of the container's control group.
func (a *agent) Update(_ context.Context, ociResources []byte) error {
	c := a.container
	if c.hasEnded() {
		return session.ErrNotRunning
	}
	file := c.runtime.scratchName("resources")
	if err := os.WriteFile(file, ociResources, 0o600); err != nil {
		return fmt.Errorf("write the new limits: %w", err)
	}
	defer os.Remove(file)
	return c.runtime.run(nil, "update", "--resources", file, c.spec.ContainerID)
}

func (c *localContainer) hasEnded() bool {
	main := c.main()
	return main == nil || change.IsClosed(main.child.Done())
}

// runPs returns ps's output. Its error is ps's own first line.
func (c *localContainer) runPs(arguments []string) (string, error) {
	path, err := exec.LookPath("ps")
	if err != nil {
		return "", connect.NewError(connect.CodeUnimplemented, errors.New("this machine has no ps command"))
	}
	out, in, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer out.Close()
	complaints, err := os.CreateTemp(c.runtime.scratch, "ps-*")
	if err != nil {
		return "", errors.Join(err, in.Close())
	}
	defer os.Remove(complaints.Name())
	defer complaints.Close()
	child, err := c.runtime.reaper.Spawn(path, slices.Concat([]string{"ps"}, arguments), &os.ProcAttr{
		Env: runtimeEnvironment(0), Files: []*os.File{nil, in, complaints},
	})
	in.Close()
	if err != nil {
		return "", err
	}
	output, err := io.ReadAll(io.LimitReader(out, psOutputLimit+1))
	out.Close() // ends a ps that writes more
	status, at := child.Status()
	switch {
	case err != nil:
		return "", fmt.Errorf("read ps: %w", err)
	case len(output) > psOutputLimit:
		return "", connect.NewError(connect.CodeResourceExhausted, errors.New("ps shows more than 2 MiB"))
	case !status.Exited() || status.ExitStatus() != 0:
		return "", fmt.Errorf("ps: %s", firstLine(complaints, describe(session.ExitStatusOf(status, at))))
	}
	return string(output), nil
}

// firstLine returns the file's first line, or otherwise if it is empty.
func firstLine(file *os.File, otherwise string) string {
	beginning := make([]byte, 4096)
	n, _ := file.ReadAt(beginning, 0)
	line, _, _ := strings.Cut(string(beginning[:n]), "\n")
	if line == "" {
		return otherwise
	}
	return line
}
