package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
)

// Sysctl is a setting of one interface, a file of
// /proc/sys/net/FAMILY/TABLE/INTERFACE.
type Sysctl struct {
	Family string // "ipv4"
	Table  string // "conf"
	Name   string // "forwarding"
	Value  string
}

// nameLegs names unnamed legs by their prefix and the lowest free number. It adds
// all names to taken.
func nameLegs(legs []leg, taken map[string]bool) {
	for _, leg := range legs {
		if leg.name != "" {
			taken[leg.name] = true
		}
	}
	for index := range legs {
		leg := &legs[index]
		for number := 0; leg.name == ""; number++ {
			if name := fmt.Sprintf("%s%d", leg.prefix, number); !taken[name] {
				leg.name, taken[name] = name, true
			}
		}
	}
}

// addNamedPair adds a leg to a namespace in use, with a name that is free there.
func addNamedPair(wanted leg, namespace *os.File) (leg, error) {
	taken := map[string]bool{}
	err := onThreadIn(int(namespace.Fd()), func(handle *netlink.Handle) error {
		links, err := dump(handle.LinkList)
		for _, link := range links {
			taken[link.Attrs().Name] = true
		}
		return err
	})
	if err != nil {
		return leg{}, err
	}
	named := []leg{wanted}
	nameLegs(named, taken)
	return named[0], addPair(named[0], int(namespace.Fd()))
}

// legInside runs inside the namespace and returns the container's end of a leg.
// It finds an existing leg by its pair, since it may have been renamed.
func legInside(handle *netlink.Handle, leg leg, existing netlink.Link) (netlink.Link, error) {
	if existing == nil {
		return handle.LinkByName(leg.name)
	}
	return handle.LinkByIndex(existing.Attrs().ParentIndex)
}

// setInterfaceSysctls runs inside the namespace. INVALID_ARGUMENT: unknown
// setting.
func setInterfaceSysctls(link string, sysctls []Sysctl) error {
	for _, sysctl := range sysctls {
		for _, part := range []string{sysctl.Family, sysctl.Table, sysctl.Name} {
			if !filepath.IsLocal(part) || strings.Contains(part, "/") {
				return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not a part of a sysctl's name", part))
			}
		}
		path := filepath.Join("net", sysctl.Family, sysctl.Table, link, sysctl.Name)
		info, err := os.Stat("/proc/sys/" + path)
		if errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("/proc/sys/%s is not a sysctl file", path))
		}
		if err != nil {
			return err
		}
		if err := setSysctl(path, sysctl.Value); err != nil {
			return fmt.Errorf("unable to write to '/proc/sys/%s': %w", path, err)
		}
	}
	return nil
}
