package containerinit

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/session"
)

// process is a process of the container.
type process struct {
	*children.Child
	main  bool
	kills uint64 // oomKills before it began
	done  <-chan struct{}
}

// Done is closed once the process has ended; for the main process, once nothing
// else of the container is left either.
func (p *process) Done() <-chan struct{} { return p.done }

// Status waits for the end. It reports OOMKilled for the main process if any
// process of the container was killed, as Docker does, and for an exec if it may
// have been the one.
func (p *process) Status() session.ExitStatus {
	status := session.ExitStatusOf(p.Child.Status())
	status.OOMKilled = oomKills() > p.kills && (p.main || status.Signal == int(unix.SIGKILL))
	return status
}

// oomFiles are where a container finds the counter of its own cgroup: version 2
// and version 1.
var oomFiles = []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"}

// oomKills counts the container's processes killed by the OOM killer; 0 if the
// platform hides it.
func oomKills() uint64 {
	for _, name := range oomFiles {
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(content) {
			if value, found := bytes.CutPrefix(line, []byte("oom_kill ")); found {
				count, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
				return count
			}
		}
	}
	return 0
}
