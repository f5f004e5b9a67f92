package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/capability"
	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/core/environment"
	"github.com/sockerless/sockerless/agent/core/identity"
	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/shim/nsenter"
)

// errNothingRan means that the program was not executed: the OCI runtime may try,
// and words the reason.
var errNothingRan = errors.New("the program was not executed")

// defaultUmask is the OCI runtime's.
const defaultUmask = 0o022

// ociProcess is the part of config.json's process that this code understands. Any
// other setting leaves the exec to the runtime.
type ociProcess struct {
	Args            []string        `json:"args"`
	Env             []string        `json:"env"`
	Cwd             string          `json:"cwd"`
	User            ociUser         `json:"user"`
	Capabilities    *ociCapability  `json:"capabilities"`
	Rlimits         []ociLimit      `json:"rlimits"`
	NoNewPrivileges bool            `json:"noNewPrivileges"`
	AppArmorProfile string          `json:"apparmorProfile"`
	SELinuxLabel    string          `json:"selinuxLabel"`
	Terminal        bool            `json:"terminal"`
	ConsoleSize     ociConsoleSize  `json:"consoleSize"`
	Scheduler       json.RawMessage `json:"scheduler"`
	IOPriority      json.RawMessage `json:"ioPriority"`
	CPUAffinity     json.RawMessage `json:"execCPUAffinity"`
}

type ociCapability struct {
	Bounding, Effective, Permitted, Inheritable, Ambient []string
}

type ociConsoleSize struct{ Height, Width uint32 }

type ociLimit struct {
	Type string `json:"type"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// limitNumbers are the kernel's. NPROC is missing: the process that joins the
// container would count.
var limitNumbers = map[string]uint32{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
	"RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11,
	"RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

// enterSpec describes the exec for the process that joins the container. root is
// the container's.
func (c *confinement) enterSpec(specification []byte, root *os.File) (*nsenter.Spec, error) {
	var process ociProcess
	if err := json.Unmarshal(specification, &process); err != nil {
		return nil, fmt.Errorf("parse the exec's process: %w", err)
	}
	switch {
	case process.AppArmorProfile != "", process.SELinuxLabel != "":
		return nil, runtimeOnly("a security label")
	case process.Scheduler != nil, process.IOPriority != nil, process.CPUAffinity != nil:
		return nil, runtimeOnly("scheduling")
	case process.Capabilities == nil:
		return nil, runtimeOnly("capabilities that are not said")
	}
	spec := &nsenter.Spec{
		Args: process.Args, Env: process.Env, Dir: process.Cwd,
		Terminal: process.Terminal, Rows: process.ConsoleSize.Height, Columns: process.ConsoleSize.Width,
		Cgroups: c.cgroups.files, OOMScore: c.oomScore, Keyring: c.keyring, Umask: defaultUmask,
		UID: process.User.UID, GID: process.User.GID, Groups: process.User.AdditionalGIDs,
		NoNewPrivileges: process.NoNewPrivileges, Filter: c.filter,
	}
	spec.Limits = []nsenter.Limit{c.files}
	for _, limit := range process.Rlimits {
		number, known := limitNumbers[limit.Type]
		if !known {
			return nil, runtimeOnly(limit.Type)
		}
		spec.Limits = append(spec.Limits, nsenter.Limit{Resource: number, Soft: limit.Soft, Hard: limit.Hard})
	}
	for _, set := range []struct {
		names []string
		into  *uint64
	}{
		{process.Capabilities.Bounding, &spec.Bounding}, {process.Capabilities.Effective, &spec.Effective},
		{process.Capabilities.Permitted, &spec.Permitted}, {process.Capabilities.Inheritable, &spec.Inheritable},
		{process.Capabilities.Ambient, &spec.Ambient},
	} {
		parsed, err := capability.Parse(set.names)
		if err != nil {
			return nil, runtimeOnly(err.Error())
		}
		*set.into = uint64(parsed)
	}
	return spec, c.addHome(spec, root)
}

// addHome sets HOME as the runtime does.
func (c *confinement) addHome(spec *nsenter.Spec, root *os.File) error {
	if home, _ := environment.Lookup(spec.Env, "HOME"); home != "" {
		return nil
	}
	user, err := identity.ResolveIn(root, fmt.Sprint(spec.UID), nil)
	if err != nil {
		return runtimeOnly(err.Error())
	}
	spec.Env = environment.Overlay(spec.Env, []string{"HOME=" + user.Home})
	return nil
}

// run executes the program. errNothingRan: it was not executed, and the runtime
// may try.
func (c *confinement) run(reaper *children.Reaper, spec *nsenter.Spec, streams session.Streams) (_ *spawned, err error) {
	var console *consolePair
	if spec.Terminal {
		streams = session.Streams{}
		if console, err = newConsolePair(); err != nil {
			return nil, errors.Join(errNothingRan, err)
		}
		defer console.close()
	}
	s, err := adopt(reaper, streams, openOwnNull, func(inherited *[3]*os.File) (int, error) { return c.enter(reaper, spec, inherited, console) })
	if err == nil && console != nil {
		if s.stdio.Terminal, err = console.receive(); err != nil {
			_ = s.child.Signal(unix.SIGKILL)
			s.stdio.Close()
			return nil, err
		}
	}
	return s, err
}

// enter returns the PID of the program's process. console is nil without a
// terminal.
func (c *confinement) enter(reaper *children.Reaper, spec *nsenter.Spec, inherited *[3]*os.File, console *consolePair) (int, error) {
	specification, tell, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("make a pipe: %w", err)
	}
	defer tell.Close()
	record, err := newRecord()
	if err != nil {
		specification.Close()
		return 0, errors.Join(errNothingRan, err)
	}
	defer record.Close()
	files := append(inherited[:], specification, record, c.main)
	if console != nil {
		files = append(files, console.theirs)
	}
	attributes, made, err := c.cgroups.attributes()
	if err != nil {
		specification.Close()
		return 0, errors.Join(errNothingRan, err)
	}
	entering, err := reaper.Spawn(fmt.Sprintf("/proc/self/fd/%d", c.binary.Fd()), []string{"sockerless-agent", "exec"}, &os.ProcAttr{
		Env:   []string{nsenter.Marker, nsenter.OneProcessor},
		Files: files,
		Sys:   attributes,
	})
	made()
	specification.Close()
	if err != nil {
		return 0, errors.Join(errNothingRan, err)
	}
	// If it dies early, the pipe breaks; its record shows why.
	_, _ = tell.Write(spec.Encode())
	tell.Close()
	<-entering.Done()
	return childOf(record, spec)
}

// newRecord creates the memory in which an entering process records its progress.
func newRecord() (*os.File, error) {
	fd, err := unix.MemfdCreate("sockerless-exec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a memory file: %w", err)
	}
	if err := unix.Ftruncate(fd, nsenter.RecordSize); err != nil {
		return nil, errors.Join(fmt.Errorf("make a memory file: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "record"), nil
}

// childOf reads the record of an entering process that has ended.
func childOf(from io.ReaderAt, spec *nsenter.Spec) (int, error) {
	var data [nsenter.RecordSize]byte
	if _, err := from.ReadAt(data[:], 0); err != nil {
		return 0, fmt.Errorf("read of an exec's start: %w", err)
	}
	switch record := nsenter.ParseRecord(data[:]); record.Kind {
	case nsenter.RecordChild:
		return int(record.Value), nil
	case nsenter.RecordFailed:
		return 0, notExecuted(refusal(nsenter.Step(record.Value), syscall.Errno(record.Errno), spec))
	case nsenter.RecordForking:
		// It may be running: a second one must not start.
		return 0, errors.New("the exec's start was killed")
	}
	return 0, notExecuted("its start was killed")
}

// notExecuted returns errNothingRan with the reason in the OCI runtime's words.
func notExecuted(reason string) error {
	return fmt.Errorf("%w: %w", errNothingRan, &runtimeError{command: "exec", reason: "exec failed: unable to start container process: " + reason})
}

// lookUpErrors are the errors that the runtime gets when it looks for the
// program.
var lookUpErrors = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG}

func refusal(at nsenter.Step, errno syscall.Errno, spec *nsenter.Spec) string {
	program := spec.Args[0]
	switch {
	case at == nsenter.StepLookUp:
		return fmt.Sprintf("exec: %q: executable file not found in $PATH", program)
	case at == nsenter.StepExecute && errno == syscall.EACCES:
		return fmt.Sprintf("exec: %q: %s", program, errno)
	case at == nsenter.StepExecute && slices.Contains(lookUpErrors, errno):
		return fmt.Sprintf("exec: %q: stat %s: %s", program, program, errno)
	case at == nsenter.StepExecute:
		return fmt.Sprintf("exec %s: %s", program, errno)
	case at == nsenter.StepDirectory:
		return fmt.Sprintf("chdir to cwd (%q) set in config.json failed: %s", spec.Dir, errno)
	}
	return nsenter.Describe(at, errno)
}
