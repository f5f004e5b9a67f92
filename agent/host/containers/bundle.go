package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/environment"
	"github.com/sockerless/sockerless/agent/core/identity"
	"github.com/sockerless/sockerless/agent/host/confined"
	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/nested"
)

// initPath is Docker's path for the init of `docker run --init`.
const initPath = "/sbin/docker-init"

// machineFacts is the part of a container's OCI configuration that only this
// machine knows.
type machineFacts struct {
	rootfs         string
	user           identity.Identity
	namespaces     map[string]string // paths of those that are joined, by type
	sharedMemory   string            // in place of the configuration's own; empty: as it is
	cgroupsPath    string            // unless the configuration names one
	images         map[string]string // sources of bind mounts without one, by destination
	mounts         []ociMount
	env            []string       // in place of the configuration's variables of the same names
	initExecutable string         // empty: no init
	root           *confined.Root // what is at rootfs
	hook           ociHook        // makes what is nested

	mounted map[string]bool // resolved destinations
	bound   map[string]bool // those of bind mounts
	nested  nested.Content
}

// ociMount is an element of `mounts`.
type ociMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// ociHook is an element of one of `hooks`.
type ociHook struct {
	Path string   `json:"path"`
	Args []string `json:"args"`
}

// object is a JSON object of which only some members are parsed; the others pass
// unchanged.
type object map[string]json.RawMessage

// completeConfig fills the facts into the backend's OCI configuration.
// INVALID_ARGUMENT: it is invalid, or has hooks, which would run as root on the
// machine, or destinations of more names than confined.Root resolves.
//
// inBinds is left to facts.hook instead of the runtime.
func completeConfig(ctx context.Context, config []byte, facts machineFacts) (completed []byte, inBinds nested.Content, err error) {
	var top object
	err = json.Unmarshal(config, &top)
	if err == nil && top == nil {
		err = errors.New("it is null")
	}
	for member, value := range top {
		// runc ignores the case of a member's name.
		if hooks := string(value); strings.EqualFold(member, "hooks") && hooks != "null" && hooks != "{}" {
			err = errors.New("hooks are refused")
		}
	}
	for _, complete := range []func(object) error{
		facts.completeRoot, facts.completeProcess, facts.completeLinux,
		func(top object) error { return facts.addMounts(ctx, top) },
		func(top object) error { return facts.takeNestedDevices(ctx, top) },
	} {
		if err == nil {
			err = complete(top)
		}
	}
	if err != nil && ctx.Err() != nil {
		return nil, inBinds, context.Cause(ctx)
	}
	if err != nil {
		return nil, inBinds, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("OCI configuration: %w", err))
	}
	if !facts.nested.IsEmpty() {
		err = top.set("hooks", map[string]any{"createContainer": []any{facts.hook}})
	}
	if err == nil {
		completed, err = json.Marshal(top)
	}
	return completed, facts.nested, err
}

// edit decodes the member, applies change, and stores it. A missing member starts
// as the zero value.
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

// set creates the object if it is nil, as `null` decodes to nil.
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
		if len(f.env) > 0 {
			if err := edit(*process, "env", func(env *[]string) error {
				*env = environment.Overlay(*env, f.env)
				return nil
			}); err != nil {
				return err
			}
		}
		if err := f.completeCapabilities(*process); err != nil {
			return err
		}
		return edit(*process, "user", func(user *object) error {
			return errors.Join(
				user.set("uid", f.user.UID), user.set("gid", f.user.GID),
				user.set("additionalGids", f.user.AdditionalGIDs),
			)
		})
	})
}

// completeCapabilities clears the capabilities of a user other than root before
// its program is executed, which would clear them anyway: as under dockerd, the
// program is looked up without them.
func (f machineFacts) completeCapabilities(process object) error {
	if _, ok := process["capabilities"]; !ok || f.user.UID == 0 {
		return nil
	}
	return edit(process, "capabilities", func(sets *object) error {
		if _, ok := (*sets)["ambient"]; ok { // these survive an execution
			return nil
		}
		delete(*sets, "effective")
		delete(*sets, "permitted")
		return nil
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
				// The container's network is decided only here.
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

func (f *machineFacts) addMounts(ctx context.Context, top object) error {
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
		if err := f.resolveDestinations(ctx, *mounts); err != nil {
			return err
		}
		return f.takeNestedMounts(mounts)
	})
}

// takeNestedMounts removes the mounts that lie inside bind mounts, which are not
// the container's alone.
func (f *machineFacts) takeNestedMounts(all *[]json.RawMessage) error {
	f.bound = map[string]bool{}
	others := []json.RawMessage{}
	for _, raw := range *all {
		var mount ociMount
		if err := json.Unmarshal(raw, &mount); err != nil {
			return err
		}
		if f.isInBind(mount.Destination) {
			f.nested.Mounts = append(f.nested.Mounts, nested.Mount{OCI: mounts.OCI(mount)})
		} else {
			others = append(others, raw)
		}
		if mount.Type == "bind" {
			f.bound[mount.Destination] = true
		}
	}
	*all = others
	return nil
}

// takeNestedDevices removes the devices that lie there.
func (f *machineFacts) takeNestedDevices(ctx context.Context, top object) error {
	return edit(top, "linux", func(linux *object) error {
		if _, hasDevices := (*linux)["devices"]; !hasDevices {
			return nil
		}
		return edit(*linux, "devices", func(devices *[]json.RawMessage) error {
			others := []json.RawMessage{}
			for _, raw := range *devices {
				var device nested.Device
				err := json.Unmarshal(raw, &device)
				if err == nil {
					device.Path, err = f.resolve(ctx, device.Path)
				}
				if err != nil {
					return err
				}
				if f.isInBind(device.Path) {
					f.nested.Devices = append(f.nested.Devices, device)
				} else {
					others = append(others, raw)
				}
			}
			*devices = others
			return nil
		})
	})
}

func (f *machineFacts) isInBind(name string) bool {
	for end := strings.LastIndexByte(name, '/'); end > 0; end = strings.LastIndexByte(name[:end], '/') {
		if f.bound[name[:end]] {
			return true
		}
	}
	return false
}

// resolve follows the links of a path as far as it is visible here: inside a mount
// it is not.
func (f *machineFacts) resolve(ctx context.Context, name string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return f.root.Resolve(name, func(name string) bool { return f.mounted[name] })
}

// resolveDestinations resolves links for the runtime, which creates some
// destinations by plain paths. A destination inside an earlier mount belongs to
// that mount, and is not visible here.
func (f *machineFacts) resolveDestinations(ctx context.Context, mounts []json.RawMessage) error {
	f.mounted = map[string]bool{}
	for i, raw := range mounts {
		var mount object
		var destination string
		err := json.Unmarshal(raw, &mount)
		if err == nil {
			err = json.Unmarshal(mount["destination"], &destination)
		}
		if err != nil {
			return err
		}
		resolved, err := f.resolve(ctx, destination)
		if err != nil {
			return fmt.Errorf("%s: %w", destination, err)
		}
		f.mounted[resolved] = true
		if resolved == destination {
			continue
		}
		if err := mount.set("destination", resolved); err != nil {
			return err
		}
		if mounts[i], err = json.Marshal(mount); err != nil {
			return err
		}
	}
	return nil
}

// replaceSources keeps the mounts' order: the user may mount beneath them.
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

// readOnlyRoot reports whether the configuration sets root.readonly.
func readOnlyRoot(config []byte) bool {
	var spec struct {
		Root struct {
			ReadOnly bool `json:"readonly"`
		} `json:"root"`
	}
	return json.Unmarshal(config, &spec) == nil && spec.Root.ReadOnly
}
