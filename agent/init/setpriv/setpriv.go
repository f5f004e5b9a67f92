// Package setpriv is the last step before a user's program runs in a cloud
// container: the agent starts itself again as `sockerless-agent setpriv`, which
// becomes the user's program, with the user's identity and nothing of the
// agent's.
//
// It inherits
//
//	fd 0–2  the program's standard streams
//	fd 3    the read end of a pipe with the Spec as JSON
//	fd 4    the write end of the status pipe
//
// and Environment. It reports on the status pipe, line by line, that everything
// is prepared (an empty Report) and then, if the program fails to execute, why.
// The pipe is close-on-exec: its end after the first line means success, before
// it that this process died.
package setpriv

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/capability"
	"github.com/sockerless/sockerless/agent/core/seccomp"
)

// Name of the subcommand.
const Name = "setpriv"

// Environment of this step: nothing of the agent's. asyncpreemptoff keeps Go's
// runtime from interrupting threads by signals, since the program's filter may
// forbid returning from one.
var Environment = []string{"GODEBUG=asyncpreemptoff=1"}

// File descriptors that this process inherits.
const (
	SpecFD   = 3
	StatusFD = 4
)

// Spec describes the program completely; nothing else is looked up.
type Spec struct {
	Args []string
	Env  []string
	Dir  string // absolute

	Terminal bool // stdin is a terminal, to become the controlling one

	// SwitchUser is false if the agent cannot switch and need not.
	SwitchUser bool
	UID, GID   uint32
	Groups     []uint32

	Capabilities    capability.Set // bounding; effective too for user 0
	Bound           bool           // the bounding set must shrink
	NoNewPrivileges bool
	Filter          *seccomp.Filter // nil: none; only with NoNewPrivileges
	Umask           uint32
	OOMScoreRaise   int // added to the agent's own score
	Limits          []Limit
}

// Limit is a resource limit (getrlimit(2)); ^uint64(0): unlimited.
type Limit struct {
	Name       string // for messages
	Resource   int
	Soft, Hard uint64
}

// Report is a line of the status pipe. Without an exit code it says that only the
// execution remains.
type Report struct {
	ExitCode int    `json:",omitempty"` // 126, 127, 128
	Message  string `json:",omitempty"`
}

// Exit codes of a program that was not executed.
const (
	NotExecutable = 126
	NotFound      = 127
	Unknown       = 128
)

// Main is the subcommand. It returns only if the program was not executed.
func Main([]string) int {
	// Identity belongs to a thread: the thread that sets it must execute.
	runtime.LockOSThread()
	unix.CloseOnExec(SpecFD)
	unix.CloseOnExec(StatusFD)
	status := os.NewFile(StatusFD, "status")
	spec, err := readSpec(os.NewFile(SpecFD, "specification"))
	if err == nil {
		err = become(spec, status)
	}
	report := Report{ExitCode: Unknown, Message: err.Error()}
	var failure *failure
	if errors.As(err, &failure) {
		report.ExitCode = failure.exitCode
	}
	if err := json.NewEncoder(status).Encode(report); err != nil {
		fmt.Fprintln(os.Stderr, "sockerless-agent:", report.Message)
	}
	return report.ExitCode
}

func readSpec(from *os.File) (*Spec, error) {
	defer from.Close()
	var spec Spec
	if err := json.NewDecoder(bufio.NewReader(from)).Decode(&spec); err != nil {
		return nil, fmt.Errorf("read the program's specification: %w", err)
	}
	return &spec, nil
}

// become turns this process into the program. It returns only on failure.
func become(spec *Spec, status io.Writer) error {
	if err := joinSession(spec); err != nil {
		return err
	}
	raiseOOMScore(spec.OOMScoreRaise) // first: a private process's file is root's
	// With the program's identity, other processes of that identity could trace
	// it. The execution makes the process ordinary again.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the memory private: %w", err)
	}
	if err := ownStreams(spec); err != nil {
		return err
	}
	unix.Umask(int(spec.Umask))
	if err := limitResources(spec.Limits); err != nil {
		return err
	}

	// Only the user may have access to the directory, or only root: both try.
	enterErr := unix.Chdir(spec.Dir)
	if enterErr != nil && !errors.Is(enterErr, unix.EACCES) {
		return dirFailure(spec.Dir, enterErr)
	}
	if err := takeIdentity(spec); err != nil {
		return err
	}
	if enterErr != nil {
		if err := unix.Chdir(spec.Dir); err != nil {
			return dirFailure(spec.Dir, err)
		}
	}
	if spec.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	path, err := lookPath(spec.Args[0], spec.Env)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(status).Encode(Report{}); err != nil {
		return fmt.Errorf("report to the agent: %w", err)
	}
	// Signals that the agent ignores must not be ignored in the program.
	signal.Reset()
	if spec.Filter != nil {
		return executeFailure(spec.Args[0], executeFiltered(path, spec))
	}
	return executeFailure(spec.Args[0], syscall.Exec(path, spec.Args, spec.Env))
}

// joinSession starts the program's own session.
func joinSession(spec *Spec) error {
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("begin a session: %w", err)
	}
	if spec.Terminal {
		if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("take the controlling terminal: %w", err)
		}
	}
	return nil
}

func limitResources(limits []Limit) error {
	for _, limit := range limits {
		err := unix.Setrlimit(limit.Resource, &unix.Rlimit{Cur: limit.Soft, Max: limit.Hard})
		if errors.Is(err, unix.EPERM) && limit.Hard == unix.RLIM_INFINITY {
			err = limitToMaximum(limit)
		}
		if err != nil {
			return fmt.Errorf("set the limit %s to %d:%d: %w", limit.Name, int64(limit.Soft), int64(limit.Hard), err)
		}
	}
	return nil
}

// limitToMaximum applies an unlimited limit if the platform lets nobody raise one:
// it sets the container's maximum.
func limitToMaximum(limit Limit) error {
	var given unix.Rlimit
	if err := unix.Getrlimit(limit.Resource, &given); err != nil {
		return err
	}
	given.Cur = min(limit.Soft, given.Max)
	return unix.Setrlimit(limit.Resource, &given)
}

// raiseOOMScore makes the kernel kill the program before the agent when memory
// runs out. The program runs even if that is refused.
func raiseOOMScore(by int) {
	const name, highest = "/proc/self/oom_score_adj", 1000
	content, err := os.ReadFile(name)
	if err != nil {
		return
	}
	score, err := strconv.Atoi(string(content[:max(0, len(content)-1)]))
	if err != nil {
		return
	}
	_ = os.WriteFile(name, []byte(strconv.Itoa(min(score+by, highest))), 0)
}

// ownStreams gives the program's user the standard streams, so that it can open
// /dev/stdout and the like by name.
func ownStreams(spec *Spec) error {
	if !spec.SwitchUser {
		return nil
	}
	var null unix.Stat_t
	if err := unix.Stat(os.DevNull, &null); err != nil {
		return fmt.Errorf("find the null device: %w", err)
	}
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("stat a standard stream: %w", err)
		}
		if st.Rdev == null.Rdev || st.Uid == spec.UID {
			continue
		}
		err := unix.Fchown(fd, int(spec.UID), -1)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("hand over a standard stream: %w", err)
		}
	}
	return nil
}
