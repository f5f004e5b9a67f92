package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sockerless/sockerless/agent/core/children"
)

const (
	// initName is the host process's name for the init of `docker run --init`.
	initName = "docker-init"
	// An init that takes longer is stopped, or its machine is.
	initLimit = 10 * time.Second
	initPoll  = time.Millisecond
)

// underInit reports whether a container's command is the child of our init.
func (t *processTemplate) underInit() bool {
	var args []string
	if err := json.Unmarshal(t.fields["args"], &args); err != nil || len(args) == 0 {
		return false
	}
	return filepath.Base(args[0]) == initName
}

// awaitCommand waits until an init has started its command or has ended. Until it
// catches signals, one to be forwarded would end it with its own runtime's exit
// code, and the command would never get it.
func awaitCommand(init *children.Child) {
	limit := time.NewTimer(initLimit)
	defer limit.Stop()
	poll := time.NewTicker(initPoll)
	defer poll.Stop()
	for !hasChildren(init.PID()) {
		select {
		case <-init.Done():
			return
		case <-limit.C:
			return
		case <-poll.C:
		}
	}
}

// hasChildren also returns true if the kernel does not tell.
func hasChildren(pid int) bool {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		return true
	}
	for _, list := range lists {
		if content, err := os.ReadFile(list); err == nil && len(content) > 0 {
			return true
		}
	}
	return false
}
