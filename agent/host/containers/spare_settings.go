package containers

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
	"github.com/sockerless/sockerless/agent/shim/enter"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// ociSpare is the part of a configuration that decides whether its container can
// be made before its command is known.
type ociSpare struct {
	Process struct {
		User struct {
			UID uint32 `json:"uid"` // once it is looked up
		} `json:"user"`
		Capabilities struct {
			Bounding, Effective, Permitted, Inheritable, Ambient []string
		} `json:"capabilities"`
		AppArmorProfile string `json:"apparmorProfile"`
		SELinuxLabel    string `json:"selinuxLabel"`
		Terminal        bool   `json:"terminal"`
		Rlimits         []struct {
			Type string `json:"type"`
		} `json:"rlimits"`
	} `json:"process"`
	Mounts []ociMount `json:"mounts"`
	Linux  struct {
		MountLabel string            `json:"mountLabel"`
		Namespaces []namespace       `json:"namespaces"`
		Sysctl     map[string]string `json:"sysctl"`
		Resources  struct {
			Pids struct {
				Limit int64 `json:"limit"`
			} `json:"pids"`
		} `json:"resources"`
		Seccomp struct {
			DefaultAction string `json:"defaultAction"`
			Syscalls      []struct {
				Action string `json:"action"`
			} `json:"syscalls"`
		} `json:"seccomp"`
	} `json:"linux"`
}

// spareMounts are the types of mounts that are of nobody but the container.
var spareMounts = []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup"}

// spareSysctls are Docker's defaults. Of others the interfaces, which come later,
// would have to have something.
var spareSysctls = []string{"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"}

// spareLimits are those that what waits does not live with wherever a small program
// does: it has threads, and reserves memory.
var spareLimits = []string{"RLIMIT_NPROC", "RLIMIT_AS", "RLIMIT_DATA"}

// needsCommand answers why not; nil: it can be.
func (o *ociSpare) needsCommand() error {
	for _, mount := range o.Mounts {
		isBind := slices.ContainsFunc(mount.Options, func(option string) bool { return option == "bind" || option == "rbind" })
		if isBind || !slices.Contains(spareMounts, mount.Type) {
			return fmt.Errorf("a mount at %s", mount.Destination)
		}
	}
	for name := range o.Linux.Sysctl {
		if !slices.Contains(spareSysctls, name) {
			return fmt.Errorf("the parameter %s", name)
		}
	}
	for _, limit := range o.Process.Rlimits {
		if slices.Contains(spareLimits, limit.Type) {
			return fmt.Errorf("the limit %s", limit.Type)
		}
	}
	if slices.ContainsFunc(o.seccompActions(), func(action string) bool { return strings.HasPrefix(action, "SCMP_ACT_KILL") }) {
		return errors.New("a filter that kills") // what waits calls the kernel otherwise than the runtime
	}
	if limit := o.Linux.Resources.Pids.Limit; limit > 0 && limit <= shimspec.FewProcesses {
		return errors.New("a few processes only")
	}
	isOwnPID := func(n namespace) bool { return n.Type == "pid" && n.Path == "" }
	switch {
	case !slices.ContainsFunc(o.Linux.Namespaces, isOwnPID):
		// The end of what waits would end those of its control group: by then, perhaps,
		// those of the container that is made anew.
		return errors.New("processes among others")
	case o.Process.AppArmorProfile != "", o.Process.SELinuxLabel != "", o.Linux.MountLabel != "":
		return errors.New("a security label") // it may change by each execution
	case o.Process.Terminal:
		return errors.New("a terminal")
	}
	return nil
}

func (o *ociSpare) seccompActions() []string {
	actions := []string{o.Linux.Seccomp.DefaultAction}
	for _, rule := range o.Linux.Seccomp.Syscalls {
		actions = append(actions, rule.Action)
	}
	return actions
}

// losesCapabilities tells, once the user is looked up, whether an execution takes
// from the process some that it has. The runtime executes the command with all that
// are permitted, and may so read what another user owns; what waits has been
// executed already.
func (o *ociSpare) losesCapabilities() bool {
	sets := o.Process.Capabilities
	kept := sets.Ambient
	if o.Process.User.UID == 0 {
		kept = slices.Concat(sets.Bounding, sets.Inheritable)
	}
	isSame := func(set []string) bool {
		lacks := func(in []string) func(string) bool {
			return func(name string) bool { return !slices.Contains(in, name) }
		}
		return !slices.ContainsFunc(set, lacks(kept)) && !slices.ContainsFunc(kept, lacks(set))
	}
	return !isSame(sets.Permitted) || !isSame(sets.Effective)
}

// checkSpare tells whether this can be prepared ahead. FAILED_PRECONDITION: it
// cannot, and why.
func checkSpare(create *hostv1.CreateContainerRequest, launched *hostv1.LaunchContainerRequest) error {
	if create.GetContainerId() != launched.GetContainerId() {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("a spare has one ID"))
	}
	var config ociSpare
	if err := json.Unmarshal(launched.GetOciSpec(), &config); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("OCI configuration: %w", err))
	}
	reason := config.needsCommand()
	switch {
	case launched.Generation != 1:
		reason = errors.New("a generation after the first")
	case !slices.Equal(create.LayerDiffIds, launched.LayerDiffIds):
		reason = errors.New("other layers")
	case hasContent(create):
		reason = errors.New("volumes")
	case launched.Keep, launched.Continues:
		reason = errors.New("a step of a build")
	case !canBeKept(launched):
		reason = errors.New("something of the machine's or of another container's")
	}
	return noSpareHas(reason)
}

// noSpareHas is FAILED_PRECONDITION with the reason; nil where there is none.
func noSpareHas(reason error) error {
	if reason == nil {
		return nil
	}
	return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("no spare has %w", reason))
}

// hasContent tells whether a creation is about more than layers.
func hasContent(create *hostv1.CreateContainerRequest) bool {
	return len(create.VolumeSeeds)+len(create.Mounts)+len(create.BindSources) > 0
}

// withCommand answers a configuration with another command and environment.
func withCommand(config []byte, args, env []string) ([]byte, error) {
	var top object
	if err := json.Unmarshal(config, &top); err != nil {
		return nil, err
	}
	if err := edit(top, "process", func(process *object) error {
		return errors.Join(process.set("args", args), process.set("env", env))
	}); err != nil {
		return nil, err
	}
	return json.Marshal(top)
}

// settingsOf identifies everything in a configuration but these, which need not be
// known.
func settingsOf(config []byte) (sum [sha256.Size]byte, err error) {
	settings, err := withCommand(config, nil, nil)
	return sha256.Sum256(settings), err
}

// waiting notes a spare's settings, and answers its configuration with the process
// that waits in the command's place.
func (s *spare) waiting(config []byte) (_ []byte, err error) {
	var completed ociSpare
	if err := json.Unmarshal(config, &completed); err != nil {
		return nil, err
	}
	if completed.losesCapabilities() {
		return nil, noSpareHas(errors.New("capabilities that an execution takes away"))
	}
	if s.settings, err = settingsOf(config); err != nil {
		return nil, err
	}
	return withCommand(config, []string{enter.WaitProgram}, enter.WaitEnvironment())
}
