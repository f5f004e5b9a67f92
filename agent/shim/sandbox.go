package shim

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/capability"
	"github.com/sockerless/sockerless/agent/shim/nsenter"
)

// devicesLimit bounds how many files of a container's /dev are copied.
const devicesLimit = 256

// sandbox is the part of a container that the next main process reuses:
// namespaces, cgroups, and how to remake its file systems. It is read while the
// first main process still belongs to the runtime, so that no user's program has
// influenced it.
type sandbox struct {
	namespaces  []*os.File // the mount namespace is the last one
	confinement *confinement
	settings    [sha256.Size]byte
	root        nsenter.Root
}

// ociSandbox is the part of config.json that decides what is reused.
type ociSandbox struct {
	Hooks   json.RawMessage `json:"hooks"`
	Process struct {
		Capabilities ociCapability `json:"capabilities"`
		Terminal     bool          `json:"terminal"`
	} `json:"process"`
	Root struct {
		ReadOnly bool `json:"readonly"`
	} `json:"root"`
	Mounts []ociMount `json:"mounts"`
	Linux  struct {
		Namespaces    []ociNamespace    `json:"namespaces"`
		MaskedPaths   []string          `json:"maskedPaths"`
		ReadonlyPaths []string          `json:"readonlyPaths"`
		Propagation   string            `json:"rootfsPropagation"`
		Sysctl        map[string]string `json:"sysctl"`
	} `json:"linux"`
}

type ociMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// processOfStep are the members of config.json's process that may change from
// step to step.
var processOfStep = []string{"args", "env", "cwd", "user"}

// setsOfUser are the capability sets that depend on the user: root has the
// bounding ones, any other user none.
var setsOfUser = []string{"effective", "permitted"}

// settingsOf returns a digest of a configuration without the members that may
// change.
func settingsOf(content []byte) (sum [sha256.Size]byte, err error) {
	var config, process map[string]json.RawMessage
	if err := json.Unmarshal(content, &config); err != nil {
		return sum, fmt.Errorf("parse the OCI configuration: %w", err)
	}
	if err := json.Unmarshal(config["process"], &process); err != nil {
		return sum, fmt.Errorf("parse the OCI configuration: %w", err)
	}
	for _, member := range processOfStep {
		delete(process, member)
	}
	if raw, ok := process["capabilities"]; ok {
		if process["capabilities"], err = without(raw, setsOfUser); err != nil {
			return sum, fmt.Errorf("parse the OCI configuration: %w", err)
		}
	}
	if config["process"], err = json.Marshal(process); err != nil {
		return sum, err
	}
	settings, err := json.Marshal(config)
	return sha256.Sum256(settings), err
}

// without returns an object without the given members.
func without(raw json.RawMessage, members []string) (json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, err
	}
	for _, member := range members {
		delete(object, member)
	}
	return json.Marshal(object)
}

// readSandbox reads the sandbox of a container that is created but not started.
// errRuntimeOnly: the next step needs a new container; the error says why.
func readSandbox(configFile string, pid int, confinement *confinement) (_ *sandbox, err error) {
	var config ociSandbox
	content, err := readConfiguration(configFile, &config)
	if err != nil {
		return nil, err
	}
	s := &sandbox{confinement: confinement}
	if s.settings, err = settingsOf(content); err != nil {
		return nil, err
	}
	kinds, err := config.keptNamespaces()
	if err != nil {
		return nil, err
	}
	s.root.Namespaces = uint32(len(kinds))
	if s.root.Mounts, err = config.mounts(); err != nil {
		return nil, err
	}
	root := filepath.Join("/proc", strconv.Itoa(pid), "root")
	if s.root.Masked, err = notKept(s.root.Mounts, root, config.Linux.MaskedPaths); err != nil {
		return nil, err
	}
	if s.root.ReadOnly, err = notKept(s.root.Mounts, root, config.Linux.ReadonlyPaths); err != nil {
		return nil, err
	}
	if s.root.Devices, err = devicesOf(filepath.Join(root, "dev")); err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		namespace, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind))
		if err != nil {
			s.close()
			return nil, fmt.Errorf("keep the container's namespaces: %w", err)
		}
		s.namespaces = append(s.namespaces, namespace)
	}
	return s, nil
}

func (s *sandbox) close() {
	for _, namespace := range s.namespaces {
		namespace.Close()
	}
}

// keptNamespaces are the kinds, as named in /proc, of namespaces that a program
// with Docker's default capabilities cannot have changed.
func (c *ociSandbox) keptNamespaces() ([]string, error) {
	bounding, err := capability.Parse(c.Process.Capabilities.Bounding)
	if err != nil {
		return nil, runtimeOnly(err.Error())
	}
	own := map[string]bool{}
	for _, namespace := range c.Linux.Namespaces {
		own[namespace.Type] = namespace.Path == "" || namespace.Type == "network"
	}
	hooks := string(bytes.TrimSpace(c.Hooks))
	switch {
	case bounding&^capability.DockerDefault != 0:
		return nil, runtimeOnly("capabilities beyond the default ones")
	case !own["pid"], !own["ipc"], !own["uts"], !own["mount"]:
		return nil, runtimeOnly("namespaces that are shared")
	case c.Process.Terminal:
		return nil, runtimeOnly("a terminal")
	case c.Root.ReadOnly:
		return nil, runtimeOnly("a read-only root")
	case hooks != "" && hooks != "null" && hooks != "{}":
		return nil, runtimeOnly("hooks")
	case c.Linux.Propagation != "":
		return nil, runtimeOnly("a propagation of mounts")
	}
	for name := range c.Linux.Sysctl {
		if !strings.HasPrefix(name, "net.") {
			return nil, runtimeOnly("the parameter " + name) // of the IPC namespace, which is new
		}
	}
	kinds := []string{"uts"}
	if own["network"] {
		kinds = append(kinds, "net")
	}
	if own["cgroup"] {
		kinds = append(kinds, "cgroup")
	}
	return append(kinds, "mnt"), nil
}

// mountFlags are the mount options that no file system defines itself.
var mountFlags = map[string]uint32{
	"rw": 0, "ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"relatime": unix.MS_RELATIME, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "strictatime": unix.MS_STRICTATIME,
}

// mounts are the parts of a root. The existing views of the machine's kernel,
// which nobody in the container can change, are reused.
func (c *ociSandbox) mounts() ([]nsenter.Mount, error) {
	var made []nsenter.Mount
	kept := ""
	for _, mount := range c.Mounts {
		target := mount.Destination
		if target != path.Clean(target) || !path.IsAbs(target) || target == "/" {
			return nil, runtimeOnly("a mount at " + target)
		}
		flags, data, isPlain := flagsOf(mount.Options)
		switch {
		case mount.Type == "sysfs" && flags&unix.MS_RDONLY != 0:
			kept = target
			made = append(made, nsenter.Mount{Type: nsenter.MountKept, Target: target})
		case mount.Type == "cgroup" && flags&unix.MS_RDONLY != 0 && kept != "" && strings.HasPrefix(target, kept+"/"):
			// It comes with its parent.
		case mount.Type == "bind":
			if !isFileBind(mount) {
				return nil, runtimeOnly("a mount at " + target)
			}
			made = append(made, nsenter.Mount{Type: nsenter.MountFile, Source: mount.Source, Target: target})
		case isPlain && (mount.Type == "proc" || mount.Type == "tmpfs" || mount.Type == "devpts" || mount.Type == "mqueue"):
			made = append(made, nsenter.Mount{Type: mount.Type, Source: mount.Source, Target: target, Flags: flags, Data: data})
		default:
			return nil, runtimeOnly("a mount at " + target)
		}
	}
	if len(made) == 0 || made[0].Type != "proc" || made[0].Target != "/proc" {
		return nil, runtimeOnly("no mount at /proc")
	}
	return made, nil
}

// notKept returns the paths outside of reused mounts, inside which they are
// already as required. What hides a file would belong to the last step's /dev.
func notKept(mounts []nsenter.Mount, root string, names []string) (others []string, err error) {
	for _, name := range names {
		isKept := slices.ContainsFunc(mounts, func(mount nsenter.Mount) bool {
			return mount.Type == nsenter.MountKept && strings.HasPrefix(name, mount.Target+"/")
		})
		switch info, err := os.Lstat(filepath.Join(root, name)); {
		case name != path.Clean(name) || !path.IsAbs(name):
			return nil, runtimeOnly("a path " + name)
		case !isKept:
			others = append(others, name)
		case err == nil && !info.IsDir():
			return nil, runtimeOnly("a file that is hidden at " + name)
		}
	}
	return others, nil
}

// flagsOf parses options as the runtime does. isPlain: none is specific to the
// file system.
func flagsOf(options []string) (flags uint32, data string, isPlain bool) {
	var rest []string
	isPlain = true
	for _, option := range options {
		flag, known := mountFlags[option]
		switch {
		case known:
			flags |= flag
		case strings.Contains(option, "="), option == "newinstance":
			rest = append(rest, option)
		default:
			isPlain = false
		}
	}
	return flags, strings.Join(rest, ","), isPlain
}

// isFileBind reports whether a bind mount is of a file and has no other options.
func isFileBind(mount ociMount) bool {
	for _, option := range mount.Options {
		if option != "bind" && option != "rbind" && option != "private" && option != "rprivate" {
			return false
		}
	}
	info, err := os.Lstat(mount.Source)
	return err == nil && info.Mode().IsRegular()
}

// devicesOf lists the initial content of a container's /dev, before anybody could
// write to it.
func devicesOf(root string) (devices []nsenter.Device, err error) {
	var own unix.Stat_t
	if err := unix.Stat(root, &own); err != nil {
		return nil, fmt.Errorf("read the container's devices: %w", err)
	}
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(name, &stat); err != nil {
			return err
		}
		device := nsenter.Device{
			Name: strings.TrimPrefix(name, root+"/"), Mode: stat.Mode, UID: stat.Uid, GID: stat.Gid, Number: stat.Rdev,
		}
		if len(devices) == devicesLimit {
			return runtimeOnly("too many devices")
		}
		switch kind := stat.Mode & unix.S_IFMT; {
		case kind == unix.S_IFDIR && stat.Dev != own.Dev:
			device.Mode, device.UID, device.GID = unix.S_IFDIR|0o755, 0, 0 // beneath the mount, as the runtime makes it
			devices = append(devices, device)
			return fs.SkipDir
		case stat.Dev != own.Dev:
			return runtimeOnly("a mount at /dev/" + device.Name)
		case kind == unix.S_IFLNK:
			device.Link, err = os.Readlink(name)
		case kind != unix.S_IFDIR && kind != unix.S_IFCHR && kind != unix.S_IFBLK && kind != unix.S_IFIFO:
			return runtimeOnly("a file at /dev/" + device.Name)
		}
		devices = append(devices, device)
		return err
	})
	if err != nil && !errors.Is(err, errRuntimeOnly) {
		err = fmt.Errorf("read the container's devices: %w", err)
	}
	return devices, err
}
