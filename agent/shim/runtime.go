package shim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/core/stdio"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// runtimeLogLimit bounds how much of the runtime's log is read.
const runtimeLogLimit = 1 << 20

// ociRuntime drives the OCI runtime's command line for one container.
type ociRuntime struct {
	path      string // executable
	root      string // its --root
	container string // ID
	scratch   string // directory for sockets and files of single commands
	reaper    *children.Reaper
	pidsLimit int64 // of the container; 0: none
	count     atomic.Uint64
}

// runtimeError is a command's refusal, in the runtime's words.
type runtimeError struct {
	command string
	reason  string
}

func (e *runtimeError) Error() string { return e.reason }

// scratchName returns a unique path for a file of one command.
func (r *ociRuntime) scratchName(kind string) string {
	return filepath.Join(r.scratch, fmt.Sprintf("%s-%d", kind, r.count.Add(1)))
}

// run runs one command to its end. create and exec pass the inherited streams and
// files to the container's process; nil means the null device.
func (r *ociRuntime) run(inherited []*os.File, command string, arguments ...string) error {
	logName := r.scratchName("log")
	defer os.Remove(logName)
	argv := append([]string{r.path, "--root", r.root, "--log", logName, "--log-format", "json", command}, arguments...)
	attr := &os.ProcAttr{Env: runtimeEnvironment(r.pidsLimit)}
	if inherited != nil {
		attr.Files = inherited
	} else {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		attr.Files = []*os.File{null, null, null}
	}
	child, err := r.reaper.Spawn(r.path, argv, attr)
	if err != nil {
		return err
	}
	status, _ := child.Status()
	if status.Exited() && status.ExitStatus() == 0 {
		return nil
	}
	reason := lastError(logName)
	if reason == "" {
		reason = fmt.Sprintf("%s %s: %s", filepath.Base(r.path), command, describe(session.ExitStatusOf(status, time.Time{})))
		if isFull(r.scratch) { // its log lies there too
			reason += ": " + unix.ENOSPC.Error()
		}
	}
	return &runtimeError{command: command, reason: reason}
}

// isFull reports whether a file system has no room left.
func isFull(dir string) bool {
	var room unix.Statfs_t
	return unix.Statfs(dir, &room) == nil && room.Blocks > 0 && (room.Bavail == 0 || room.Files > 0 && room.Ffree == 0)
}

// runtimeEnvironment is the runtime's environment. Some variables of a service
// manager (LISTEN_FDS, NOTIFY_SOCKET) would change its behaviour.
func runtimeEnvironment(pidsLimit int64) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/sbin:/usr/bin:/sbin:/bin"
	}
	// It works sequentially: more processors cost it threads, 1.5 ms of processor
	// time for each container. The container's process does not get the variable.
	processors := 1
	if pidsLimit > 0 && pidsLimit <= shimspec.FewProcesses {
		processors = 4
	}
	return []string{"PATH=" + path, "GOMAXPROCS=" + strconv.Itoa(processors)}
}

func describe(status session.ExitStatus) string {
	if status.Signal != 0 {
		return fmt.Sprintf("signal %d", status.Signal)
	}
	return fmt.Sprintf("exit status %d", status.Code)
}

// lastError returns the last error in the runtime's log, which has one JSON
// object a line.
func lastError(name string) string {
	file, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer file.Close()
	reason := ""
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, runtimeLogLimit)
	for lines.Scan() {
		var entry struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
		}
		if json.Unmarshal(lines.Bytes(), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			reason = entry.Msg
		}
	}
	return strings.TrimSpace(reason)
}

// spawned is a process that the runtime created.
type spawned struct {
	child *children.Child
	stdio session.Stdio
}

// spawn runs `create` or `exec`, which leave behind a process that becomes our
// child, and adopts it.
func (r *ociRuntime) spawn(
	tty bool, streams session.Streams, openNull nullOpener, command string, arguments ...string,
) (_ *spawned, err error) {
	var console *consoleSocket
	if tty {
		streams = session.Streams{}
		if console, err = listenForConsole(r.scratchName("tty")); err != nil {
			return nil, err
		}
		defer console.close()
		arguments = append([]string{"--console-socket", console.path}, arguments...)
	}
	pidFile := r.scratchName("pid")
	defer os.Remove(pidFile)
	arguments = append([]string{"--pid-file", pidFile}, arguments...)
	s, err := adopt(r.reaper, streams, openNull, func(inherited *[3]*os.File) (int, error) {
		if err := r.run(inherited[:], command, arguments...); err != nil {
			return 0, err
		}
		return readPID(pidFile)
	})
	if err == nil && tty {
		if s.stdio.Terminal, err = console.receive(); err != nil {
			s.stdio.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// adopt takes charge of a child that another process creates before it ends. make
// returns its PID; the child has the streams as 0, 1 and 2.
func adopt(
	reaper *children.Reaper, streams session.Streams, openNull nullOpener, make func(inherited *[3]*os.File) (pid int, err error),
) (_ *spawned, err error) {
	wires, err := stdio.Pipes(streams, openNull)
	if err != nil {
		return nil, err
	}
	defer wires.CloseChild()
	defer func() {
		if err != nil {
			wires.Ours.Close()
		}
	}()
	adopted := reaper.ExpectAdoption()
	defer adopted()
	pid, err := make(&wires.Child)
	if err != nil {
		return nil, err
	}
	child, err := reaper.Adopt(pid)
	if err != nil {
		return nil, err
	}
	return &spawned{child: child, stdio: wires.Ours}, nil
}

func readPID(name string) (int, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return 0, fmt.Errorf("read the runtime's PID file: %w", err)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(content)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("the runtime's PID file holds %q", content)
	}
	return pid, nil
}
