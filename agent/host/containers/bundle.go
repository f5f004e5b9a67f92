package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/identity"
)

// initPath is where Docker has the init of `docker run --init`.
const initPath = "/sbin/docker-init"

// machineFacts is what only this machine knows of a container's OCI
// configuration.
type machineFacts struct {
	rootfs         string
	user           identity.Identity
	namespaces     map[string]string // paths of those that are joined, by type
	sharedMemory   string            // in place of the configuration's own; empty: as it is
	cgroupsPath    string            // unless the configuration names one
	images         map[string]string // sources of bind mounts without one, by destination
	mounts         []ociMount
	initExecutable string // empty: no init
}

// ociMount is an element of `mounts`.
type ociMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// object is a JSON object of which only some members are understood; the others
// pass unchanged.
type object map[string]json.RawMessage

// completeConfig fills the facts into the backend's OCI configuration.
// INVALID_ARGUMENT: it is not one, or it has hooks, which would run as root on
// the machine.
func completeConfig(config []byte, facts machineFacts) ([]byte, error) {
	var top object
	err := json.Unmarshal(config, &top)
	if err == nil && top == nil {
		err = errors.New("it is null")
	}
	for member, value := range top {
		// runc does not mind the case of a member's name.
		if hooks := string(value); strings.EqualFold(member, "hooks") && hooks != "null" && hooks != "{}" {
			err = errors.New("hooks are refused")
		}
	}
	for _, complete := range []func(object) error{facts.completeRoot, facts.completeProcess, facts.completeLinux, facts.addMounts} {
		if err == nil {
			err = complete(top)
		}
	}
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("OCI configuration: %w", err))
	}
	return json.Marshal(top)
}

// edit decodes the member, lets change alter it, and puts it back. A missing
// member begins as the zero value.
func edit[T any](o object, member string, change func(*T) error) error {
	var value T
	if raw, ok := o[member]; ok {
		if err := json.Unmarshal(raw, &value); err != nil {
			return fmt.Errorf("%s: %w", member, err)
		}
	}
	if err := change(&value); err != nil {
		return fmt.Errorf("%s: %w", member, err)
	}
	raw, err := json.Marshal(value)
	o[member] = raw
	return err
}

// set makes sure that there is an object, since `null` decodes to none.
func (o *object) set(member string, value any) error {
	if *o == nil {
		*o = object{}
	}
	raw, err := json.Marshal(value)
	(*o)[member] = raw
	return err
}

func (f machineFacts) completeRoot(top object) error {
	return edit(top, "root", func(root *object) error { return root.set("path", f.rootfs) })
}

func (f machineFacts) completeProcess(top object) error {
	return edit(top, "process", func(process *object) error {
		if *process == nil {
			return errors.New("missing")
		}
		if f.initExecutable != "" {
			if err := edit(*process, "args", func(args *[]string) error {
				*args = append([]string{initPath, "--"}, *args...)
				return nil
			}); err != nil {
				return err
			}
		}
		return edit(*process, "user", func(user *object) error {
			return errors.Join(
				user.set("uid", f.user.UID), user.set("gid", f.user.GID),
				user.set("additionalGids", f.user.AdditionalGIDs),
			)
		})
	})
}

// namespace is an element of linux.namespaces.
type namespace struct {
	Type string `json:"type"`
	Path string `json:"path,omitempty"`
}

func (f machineFacts) completeLinux(top object) error {
	return edit(top, "linux", func(linux *object) error {
		if cgroups := string((*linux)["cgroupsPath"]); cgroups == "" || cgroups == `""` || cgroups == "null" {
			if err := linux.set("cgroupsPath", f.cgroupsPath); err != nil {
				return err
			}
		}
		return edit(*linux, "namespaces", func(namespaces *[]namespace) error {
			kept := []namespace{}
			for _, n := range *namespaces {
				// Which network a container has is decided here.
				if n.Type != "network" && f.namespaces[n.Type] == "" {
					kept = append(kept, n)
				}
			}
			for _, kind := range slices.Sorted(maps.Keys(f.namespaces)) {
				kept = append(kept, namespace{kind, f.namespaces[kind]})
			}
			*namespaces = kept
			return nil
		})
	})
}

func (f machineFacts) addMounts(top object) error {
	added := f.mounts
	if f.initExecutable != "" {
		added = append(added, ociMount{initPath, "bind", f.initExecutable, []string{"bind", "ro", "rprivate"}})
	}
	return edit(top, "mounts", func(mounts *[]json.RawMessage) error {
		if err := f.replaceSources(*mounts); err != nil {
			return err
		}
		for _, mount := range added {
			raw, err := json.Marshal(mount)
			if err != nil {
				return err
			}
			*mounts = append(*mounts, raw)
		}
		return nil
	})
}

// replaceSources leaves mounts their places: the user may mount beneath them.
func (f machineFacts) replaceSources(mounts []json.RawMessage) error {
	for i, raw := range mounts {
		var mount ociMount
		if err := json.Unmarshal(raw, &mount); err != nil {
			return err
		}
		switch image := f.images[mount.Destination]; {
		case f.sharedMemory != "" && isSharedMemory(mount):
			mount = ociMount{mount.Destination, "bind", f.sharedMemory, []string{"rbind", "rprivate"}}
		case image != "" && mount.Type == "bind" && mount.Source == "":
			mount.Source = image
		default:
			continue
		}
		replacement, err := json.Marshal(mount)
		if err != nil {
			return err
		}
		mounts[i] = replacement
	}
	return nil
}

// readOnlyRoot tells whether the configuration has root.readonly.
func readOnlyRoot(config []byte) bool {
	var spec struct {
		Root struct {
			ReadOnly bool `json:"readonly"`
		} `json:"root"`
	}
	return json.Unmarshal(config, &spec) == nil && spec.Root.ReadOnly
}
