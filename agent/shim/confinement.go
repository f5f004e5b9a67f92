package shim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
	"github.com/sockerless/sockerless/agent/shim/nsenter"
)

// confinement is what an exec shares with the container's main process, so that
// the shim can confine it as tightly without the OCI runtime. It is read while
// that process still belongs to the runtime and no user's program runs.
type confinement struct {
	main     *os.File // a pidfd
	binary   *os.File // the program that enters, where nobody can write to it
	cgroups  joinedCgroups
	oomScore string
	files    nsenter.Limit // of open files; Go's runtime raises its own
	keyring  string
	filter   []byte // of seccomp; nil: none
	// The container's processes may trace each other, and so also the OCI
	// runtime's process that enters the container with every capability.
	traces bool
}

// ociConfinement is the relevant part of config.json.
type ociConfinement struct {
	Process struct {
		User struct {
			Umask *uint32 `json:"umask"`
		} `json:"user"`
		Capabilities struct {
			Bounding []string `json:"bounding"`
		} `json:"capabilities"`
		OOMScoreAdj *int `json:"oomScoreAdj"`
	} `json:"process"`
	Linux struct {
		Namespaces []struct {
			Type string `json:"type"`
		} `json:"namespaces"`
		Seccomp     *ociSeccomp     `json:"seccomp"`
		Personality json.RawMessage `json:"personality"`
		IntelRdt    json.RawMessage `json:"intelRdt"`
		MountLabel  string          `json:"mountLabel"`
	} `json:"linux"`
}

// ociSeccomp is the relevant part of a profile.
type ociSeccomp struct {
	DefaultAction string   `json:"defaultAction"`
	Flags         []string `json:"flags"`
	ListenerPath  string   `json:"listenerPath"`
	Syscalls      []struct {
		Action string `json:"action"`
	} `json:"syscalls"`
}

// endsThreads reports whether a forbidden call may end a single thread, so that
// the entering process would run on without it, or raise a signal, which Go's
// runtime reports on the program's standard error.
func (s *ociSeccomp) endsThreads() bool {
	actions := []string{s.DefaultAction}
	for _, rule := range s.Syscalls {
		actions = append(actions, rule.Action)
	}
	return slices.ContainsFunc(actions, func(action string) bool {
		return action == "SCMP_ACT_KILL" || action == "SCMP_ACT_KILL_THREAD" || action == "SCMP_ACT_TRAP"
	})
}

// errRuntimeOnly means that the container has something that only the OCI runtime
// can set up.
var errRuntimeOnly = errors.New("execs need the OCI runtime")

func runtimeOnly(why string) error { return fmt.Errorf("%w: %s", errRuntimeOnly, why) }

// needsRuntime returns errRuntimeOnly with the reason, or nil.
func (c *ociConfinement) needsRuntime() error {
	types := []string{}
	for _, namespace := range c.Linux.Namespaces {
		types = append(types, namespace.Type)
	}
	switch seccomp := c.Linux.Seccomp; {
	case !slices.Contains(types, "mount"):
		return runtimeOnly("no mount namespace")
	case slices.Contains(types, "user"), slices.Contains(types, "time"):
		return runtimeOnly("a user or time namespace")
	case c.Linux.Personality != nil, c.Linux.IntelRdt != nil:
		return runtimeOnly("a personality or a resource class")
	case c.Process.User.Umask != nil:
		return runtimeOnly("a umask of its own")
	case c.Linux.MountLabel != "":
		return runtimeOnly("a security label")
	case seccomp != nil && (len(seccomp.Flags) > 0 || seccomp.ListenerPath != ""):
		return runtimeOnly("seccomp flags or a seccomp listener")
	case seccomp != nil && seccomp.endsThreads():
		return runtimeOnly("a filter that ends threads or traps")
	}
	return nil
}

// readConfinement reads the confinement of a container that is created but not
// started.
func readConfinement(configFile, containerID string, main *children.Child, reaper *children.Reaper) (_ *confinement, err error) {
	var config ociConfinement
	if _, err := readConfiguration(configFile, &config); err != nil {
		return nil, err
	}
	if err := config.needsRuntime(); err != nil {
		return nil, err
	}
	c := &confinement{
		keyring: "_ses." + containerID,
		traces:  slices.Contains(config.Process.Capabilities.Bounding, "CAP_SYS_PTRACE"),
	}
	if score := config.Process.OOMScoreAdj; score != nil {
		c.oomScore = strconv.Itoa(*score)
	}
	if c.cgroups, err = cgroupsToJoin(main.PID()); err != nil {
		return nil, err
	}
	if c.files, err = openFilesLimit(main.PID()); err != nil {
		return nil, err
	}
	if config.Linux.Seccomp != nil {
		if err := reaper.WithoutReaping(func() (err error) { c.filter, err = seccompFilterOf(main.PID()); return err }); err != nil {
			return nil, err
		}
	}
	if c.binary, err = protectedBinary(programToEnter()); err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(main.PID(), 0)
	if err != nil {
		c.binary.Close()
		return nil, fmt.Errorf("hold the container's process: %w", err)
	}
	c.main = os.NewFile(uintptr(pidfd), "main process")
	return c, nil
}

// openFilesLimit reads /proc/PID/limits, because prlimit needs a capability for
// another user's process.
func openFilesLimit(pid int) (limit nsenter.Limit, err error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "limits"))
	if err != nil {
		return limit, fmt.Errorf("read the container's limits: %w", err)
	}
	limit.Resource = unix.RLIMIT_NOFILE
	_, line, _ := strings.Cut(string(content), "\nMax open files")
	if _, err := fmt.Sscan(line, &limit.Soft, &limit.Hard); err != nil {
		return limit, fmt.Errorf("read the container's limits: %w", err)
	}
	return limit, nil
}

// joinedCgroups are the cgroups of a process that are not this process's too.
// After a write to cgroup.procs the kernel waits for all readers of its lock, 5
// to 20 ms unless it has just done so; the other ways to join do not wait.
type joinedCgroups struct {
	// Files to which the joining process writes itself: in version 1 `tasks`,
	// which moves the thread that clones the program; in version 2
	// `cgroup.procs`, if it must.
	files []string
	waits bool   // one of them is cgroup.procs
	born  string // the version 2 group in which the process is cloned; empty: none
}

// cgroupsToJoin finds those of a process. A process is cloned into a version 2
// group only if version 1 does the freezing: one frozen before it executes would
// block its parent.
func cgroupsToJoin(pid int) (joined joinedCgroups, err error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return joined, err
	}
	theirs, err := cgroupPaths(strconv.Itoa(pid))
	if err != nil {
		return joined, err
	}
	ours, err := cgroupPaths("self")
	if err != nil {
		return joined, err
	}
	for hierarchy, path := range theirs {
		if ours[hierarchy] == path {
			continue
		}
		mount := mounts[hierarchy]
		if mount == "" {
			return joined, runtimeOnly("cgroup hierarchy " + hierarchy + " is not mounted")
		}
		group := filepath.Join(mount, path)
		switch _, frozenByVersion1 := theirs["freezer"]; {
		case hierarchy != "":
			joined.files = append(joined.files, filepath.Join(group, "tasks"))
		case !frozenByVersion1:
			joined.files = append(joined.files, filepath.Join(group, "cgroup.procs"))
			joined.waits = true
		default:
			joined.born = group
		}
	}
	slices.Sort(joined.files)
	return joined, nil
}

// attributes makes a clone start in the version 2 group. Call done after the
// clone.
func (j joinedCgroups) attributes() (_ *syscall.SysProcAttr, done func(), err error) {
	if j.born == "" {
		return nil, func() {}, nil
	}
	group, err := os.Open(j.born)
	if err != nil {
		return nil, nil, fmt.Errorf("find the control group: %w", err)
	}
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}, func() { group.Close() }, nil
}

// cgroupPaths are a process's cgroups by hierarchy: its controllers or name, ""
// for version 2.
func cgroupPaths(process string) (map[string]string, error) {
	content, err := os.ReadFile("/proc/" + process + "/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the control groups: %w", err)
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(parts) == 3 {
			paths[parts[1]] = parts[2]
		}
	}
	return paths, nil
}

// cgroupMounts are the mount points of whole hierarchies.
func cgroupMounts() (map[string]string, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the control groups' mounts: %w", err)
	}
	mounts := map[string]string{}
	for line := range strings.Lines(string(content)) {
		// ID parent device root point options … - type source superblock
		before, after, separated := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !separated || len(fields) < 6 || len(kind) < 3 || fields[3] != "/" {
			continue
		}
		switch kind[0] {
		case "cgroup2":
			mounts[""] = fields[4]
		case "cgroup":
			mounts[hierarchyOf(kind[2])] = fields[4]
		}
	}
	return mounts, nil
}

// hierarchyOf extracts from a version 1 mount's options the name of the hierarchy
// in /proc/PID/cgroup.
func hierarchyOf(options string) string {
	var controllers []string
	for option := range strings.SplitSeq(options, ",") {
		if option != "rw" && option != "ro" && option != "xattr" && option != "clone_children" && !strings.HasPrefix(option, "release_agent=") {
			controllers = append(controllers, option)
		}
	}
	return strings.Join(controllers, ",")
}

// enterProgram is the file name of the small program with package nsenter, beside
// this one. The build sets it, with the digest of that program; empty: none.
var enterProgram string

// programBeside is the path of enterProgram; empty: none.
func programBeside() string {
	if self, err := os.Executable(); err == nil && enterProgram != "" {
		beside := filepath.Join(filepath.Dir(self), enterProgram)
		if info, err := os.Lstat(beside); err == nil && info.Mode().IsRegular() {
			return beside
		}
	}
	return ""
}

// programToEnter falls back to this program, which does the same but starts more
// slowly.
func programToEnter() string { return cmp.Or(programBeside(), "/proc/self/exe") }

// protectedBinary opens a program on its own read-only mount: a process of the
// container that reaches it through /proc/PID/exe cannot write to it.
func protectedBinary(program string) (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, program, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount the agent for execs: %w", err)
	}
	defer unix.Close(tree)
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &readOnly); err != nil {
		return nil, fmt.Errorf("mount the agent for execs: %w", err)
	}
	// Above the numbers that the started process gets.
	fd, err := unix.FcntlInt(uintptr(tree), unix.F_DUPFD_CLOEXEC, 64)
	if err != nil {
		return nil, fmt.Errorf("mount the agent for execs: %w", err)
	}
	return os.NewFile(uintptr(fd), "agent"), nil
}
