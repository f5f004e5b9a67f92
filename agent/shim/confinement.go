package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/children"
)

// confinement is what an exec has to share with the container's main process,
// so that it can be made without the OCI runtime, as tight. It is read while
// that process is still the runtime's and no user's program runs.
type confinement struct {
	main     *os.File // a pidfd
	binary   *os.File // this program, where nobody can write to it
	cgroups  []string // cgroup.procs of those that are not our own
	oomScore string
	keyring  string
	filter   []byte
	// Processes of the container may trace each other, and so the OCI runtime's
	// process that enters it, which has every capability.
	traces bool
}

// ociConfinement is the part of config.json that decides.
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

// ociSeccomp is the part of a profile that decides.
type ociSeccomp struct {
	DefaultAction string   `json:"defaultAction"`
	Flags         []string `json:"flags"`
	ListenerPath  string   `json:"listenerPath"`
	Syscalls      []struct {
		Action string `json:"action"`
	} `json:"syscalls"`
}

// endsThreads tells whether a forbidden call may end a thread alone, after which
// the process that enters would stay without it, or be a signal, of which Go's
// runtime writes to the program's standard error.
func (s *ociSeccomp) endsThreads() bool {
	actions := []string{s.DefaultAction}
	for _, rule := range s.Syscalls {
		actions = append(actions, rule.Action)
	}
	return slices.ContainsFunc(actions, func(action string) bool {
		return action == "SCMP_ACT_KILL" || action == "SCMP_ACT_KILL_THREAD" || action == "SCMP_ACT_TRAP"
	})
}

// errRuntimeOnly: the container has something that only the OCI runtime gives.
var errRuntimeOnly = errors.New("execs need the OCI runtime")

func runtimeOnly(why string) error { return fmt.Errorf("%w: %s", errRuntimeOnly, why) }

// needsRuntime answers errRuntimeOnly with the reason, if there is one.
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

// readConfinement reads it of a container that is created and not started.
func readConfinement(configFile, containerID string, main *children.Child, reaper *children.Reaper) (_ *confinement, err error) {
	content, err := os.ReadFile(configFile)
	if err != nil {
		return nil, fmt.Errorf("read the OCI configuration: %w", err)
	}
	var config ociConfinement
	if err := json.Unmarshal(content, &config); err != nil {
		return nil, fmt.Errorf("parse the OCI configuration: %w", err)
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
	if config.Linux.Seccomp != nil {
		if err := reaper.WithoutReaping(func() (err error) { c.filter, err = seccompFilterOf(main.PID()); return err }); err != nil {
			return nil, err
		}
	}
	if c.binary, err = protectedBinary(); err != nil {
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

// cgroupsToJoin are the cgroup.procs of the groups that a process is in and this
// one is not, by hierarchy.
func cgroupsToJoin(pid int) ([]string, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	theirs, err := cgroupPaths(strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	ours, err := cgroupPaths("self")
	if err != nil {
		return nil, err
	}
	var files []string
	for hierarchy, path := range theirs {
		if ours[hierarchy] == path {
			continue
		}
		mount := mounts[hierarchy]
		if mount == "" {
			return nil, runtimeOnly("cgroup hierarchy " + hierarchy + " is not mounted")
		}
		files = append(files, filepath.Join(mount, path, "cgroup.procs"))
	}
	slices.Sort(files)
	return files, nil
}

// cgroupPaths are a process's groups by hierarchy: its controllers or name, ""
// for version 2's.
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

// cgroupMounts are where the hierarchies are mounted whole.
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

// hierarchyOf picks out of a version 1 mount's options what /proc/PID/cgroup
// calls the hierarchy.
func hierarchyOf(options string) string {
	var controllers []string
	for option := range strings.SplitSeq(options, ",") {
		if option != "rw" && option != "ro" && option != "xattr" && option != "clone_children" && !strings.HasPrefix(option, "release_agent=") {
			controllers = append(controllers, option)
		}
	}
	return strings.Join(controllers, ",")
}

// protectedBinary opens this program on a read-only mount of its own: a process
// of the container that gets hold of it, by /proc of the one that executes it,
// cannot write to it.
func protectedBinary() (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount the agent for execs: %w", err)
	}
	defer unix.Close(tree)
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &readOnly); err != nil {
		return nil, fmt.Errorf("mount the agent for execs: %w", err)
	}
	// Out of the way of the numbers that the started process gets.
	fd, err := unix.FcntlInt(uintptr(tree), unix.F_DUPFD_CLOEXEC, 64)
	if err != nil {
		return nil, fmt.Errorf("mount the agent for execs: %w", err)
	}
	return os.NewFile(uintptr(fd), "agent"), nil
}
