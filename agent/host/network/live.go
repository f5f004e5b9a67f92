package network

import (
	"errors"
	"fmt"
	"net"
	"os"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
)

// Connect adds a leg to a namespace in use. It may be repeated: an existing leg
// on the same bridge is set up again. defaultGateway becomes the namespace's;
// empty: unchanged.
func (i *Instance) Connect(namespace Namespace, wanted Interface, defaultGateway string) error {
	wanted.Gateway = ""
	namespace.Interfaces = []Interface{wanted}
	legs, err := i.parseLegs(namespace)
	if err != nil {
		return err
	}
	leg := legs[0]
	gateway, err := parseDefaultGateway(defaultGateway)
	if err != nil {
		return err
	}
	inside, err := openNamespace(namespace.Path)
	if err != nil {
		return err
	}
	defer inside.Close()
	slot, existing, err := i.slotFor(namespace, leg.bridge)
	if err != nil {
		return err
	}
	if existing == nil {
		if err := markRewired(namespace.Path); err != nil {
			return err
		}
	}
	leg.host = i.vethName(namespace.ContainerID, namespace.Generation, slot)
	if existing == nil {
		if leg, err = addNamedPair(leg, inside); err != nil {
			return err
		}
	}
	err = onThreadIn(int(inside.Fd()), func(handle *netlink.Handle) error {
		link, err := legInside(handle, leg, existing)
		if err != nil {
			return err
		}
		if err := configure(handle, link, leg); err != nil {
			return fmt.Errorf("configure %s: %w", leg.name, err)
		}
		return setDefaultRoute(handle, gateway)
	})
	if err != nil && existing == nil {
		err = errors.Join(err, deleteLinkByName(leg.host))
	}
	return err
}

// Disconnect removes the leg on a bridge; a missing one is not an error.
func (i *Instance) Disconnect(namespace Namespace, bridge, defaultGateway string) error {
	gateway, err := parseDefaultGateway(defaultGateway)
	if err != nil {
		return err
	}
	inside, err := openNamespace(namespace.Path)
	if err != nil {
		return err
	}
	defer inside.Close()
	link, err := netlink.LinkByName(bridge)
	if isNotFound(err) {
		return nil // the bridge's legs are gone with it
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	_, existing, err := i.slotFor(namespace, link.Attrs().Index)
	if err != nil {
		return err
	}
	if existing != nil {
		if err := markRewired(namespace.Path); err != nil {
			return err
		}
		if err := deleteLink(existing); err != nil {
			return err
		}
	}
	return onThreadIn(int(inside.Fd()), func(handle *netlink.Handle) error {
		return setDefaultRoute(handle, gateway)
	})
}

// slotFor finds the leg on a bridge, or the lowest free number.
func (i *Instance) slotFor(namespace Namespace, bridge int) (slot int, leg netlink.Link, err error) {
	free := -1
	for index := range mostInterfaces {
		link, err := netlink.LinkByName(i.vethName(namespace.ContainerID, namespace.Generation, index))
		switch {
		case isNotFound(err):
			if free < 0 {
				free = index
			}
		case err != nil:
			return 0, nil, err
		case link.Attrs().MasterIndex == bridge:
			return index, link, nil
		}
	}
	if free < 0 {
		return 0, nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a container joins at most %d networks", mostInterfaces))
	}
	return free, nil, nil
}

func parseDefaultGateway(text string) (net.IP, error) {
	if text == "" {
		return nil, nil
	}
	if gateway := net.ParseIP(text); gateway != nil {
		return gateway, nil
	}
	return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not an address", text))
}

// setDefaultRoute runs inside the namespace.
func setDefaultRoute(handle *netlink.Handle, gateway net.IP) error {
	if gateway == nil {
		return nil
	}
	if err := handle.RouteReplace(&netlink.Route{Gw: gateway}); err != nil {
		return fmt.Errorf("default route by %s: %w", gateway, err)
	}
	return nil
}

func openNamespace(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the container has no network namespace of its own"))
	}
	return file, err
}

// rewired marks a namespace whose legs have changed: their numbers may have gaps,
// so its deletion checks every number.
const rewired = ".rewired"

func markRewired(path string) error { return os.WriteFile(path+rewired, nil, 0o600) }

// deleteRewired deletes all legs of a namespace that may have gaps.
func (i *Instance) deleteRewired(containerID string, generation uint64, path string) error {
	if _, err := os.Lstat(path + rewired); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var failures []error
	for index := range mostInterfaces {
		failures = append(failures, deleteLinkByName(i.vethName(containerID, generation, index)))
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	return os.Remove(path + rewired)
}

// Addresses returns the IPv4 addresses of a namespace, but for loopback's. A
// missing namespace has none.
func Addresses(path string) (found []string, err error) {
	inside, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	err = onThreadIn(int(inside.Fd()), func(handle *netlink.Handle) error {
		addresses, err := dump(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_V4) })
		for _, address := range addresses {
			if !address.IP.IsLoopback() {
				found = append(found, address.IP.String())
			}
		}
		return err
	})
	return found, err
}
