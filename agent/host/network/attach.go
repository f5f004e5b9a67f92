package network

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
)

// Interface connects a container to a bridge.
type Interface struct {
	Bridge  string
	Address string // "172.17.0.2/16"
	Gateway string // "172.17.0.1"; empty: no default route by this interface
	MAC     string // empty: the kernel chooses
	Name    string // in the container; empty: Prefix and the lowest number that is free
	Prefix  string // empty: "eth"
	MTU     uint32 // 0: the kernel's own
	Sysctls []Sysctl
	// No traffic with other apart interfaces of the bridge.
	Apart bool
}

// Namespace is the network of one start of a container. Without interfaces it has
// only loopback.
type Namespace struct {
	ContainerID string
	Generation  uint64
	Path        string // where it is bound
	Interfaces  []Interface
}

// leg is a parsed Interface.
type leg struct {
	host    string // name of the machine's end
	name    string // in the container; empty until prefix has got its number
	prefix  string
	bridge  int // index of the bridge's link
	address *net.IPNet
	gateway net.IP
	mac     net.HardwareAddr
	mtu     uint32
	sysctls []Sysctl
	apart   bool
}

// Create creates the namespace with all its interfaces up. A failure leaves
// nothing behind. NOT_FOUND: a bridge is missing.
func (i *Instance) Create(namespace Namespace) error {
	legs, err := i.parseLegs(namespace)
	if err != nil {
		return err
	}
	nameLegs(legs, map[string]bool{"lo": true})
	if err := createNamespace(namespace.Path, prepareNamespace); err != nil {
		return err
	}
	faultpoint.Reached("host.launch.namespace-made")
	if err := i.connect(namespace.Path, legs); err != nil {
		return errors.Join(err, deleteLegs(legs), deleteNamespace(namespace.Path))
	}
	return nil
}

func deleteLegs(legs []leg) (err error) {
	for _, leg := range legs {
		err = errors.Join(err, deleteLinkByName(leg.host))
	}
	return err
}

func (i *Instance) parseLegs(namespace Namespace) ([]leg, error) {
	if len(namespace.Interfaces) > mostInterfaces {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a container joins at most %d networks", mostInterfaces))
	}
	legs := make([]leg, 0, len(namespace.Interfaces))
	for index, wanted := range namespace.Interfaces {
		parsed := leg{
			host: i.vethName(namespace.ContainerID, namespace.Generation, index),
			name: wanted.Name, prefix: cmp.Or(wanted.Prefix, "eth"),
			mtu: wanted.MTU, sysctls: wanted.Sysctls, apart: wanted.Apart,
		}
		address, subnet, err := net.ParseCIDR(wanted.Address)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		parsed.address = &net.IPNet{IP: address, Mask: subnet.Mask}
		if wanted.Gateway != "" {
			if parsed.gateway = net.ParseIP(wanted.Gateway); parsed.gateway == nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not an address", wanted.Gateway))
			}
		}
		if wanted.MAC != "" {
			if parsed.mac, err = net.ParseMAC(wanted.MAC); err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
		}
		bridge, err := netlink.LinkByName(wanted.Bridge)
		if isNotFound(err) {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("bridge %s: %w", wanted.Bridge, err))
		}
		if err != nil {
			return nil, fmt.Errorf("bridge %s: %w", wanted.Bridge, err)
		}
		parsed.bridge = bridge.Attrs().Index
		legs = append(legs, parsed)
	}
	return legs, nil
}

// prepareNamespace runs inside the new namespace.
func prepareNamespace(handle *netlink.Handle) error {
	// New interfaces have no IPv6, loopback keeps ::1, as in Docker's networks
	// without IPv6. A machine without IPv6 has no such file.
	if err := setSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Neighbours that know this address under another MAC learn the new one when
	// the interface comes up.
	if err := setSysctl("net/ipv4/conf/default/arp_notify", "1"); err != nil {
		return err
	}
	return setLoopbackUp(handle)
}

func setLoopbackUp(handle *netlink.Handle) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Index = 1 // loopback is the first link of every namespace
	if err := handle.LinkSetUp(&netlink.Device{LinkAttrs: attributes}); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

func (i *Instance) connect(path string, legs []leg) error {
	if len(legs) == 0 {
		return nil
	}
	namespace, err := os.Open(path)
	if err != nil {
		return err
	}
	defer namespace.Close()
	for _, leg := range legs {
		if err := addPair(leg, int(namespace.Fd())); err != nil {
			return err
		}
	}
	return onThreadIn(int(namespace.Fd()), func(handle *netlink.Handle) error {
		for _, leg := range legs {
			link, err := handle.LinkByName(leg.name)
			if err != nil {
				return err
			}
			if err := configure(handle, link, leg); err != nil {
				return fmt.Errorf("configure %s: %w", leg.name, err)
			}
		}
		return nil
	})
}

// addPair creates both ends of a veth pair in one request: the machine's on the
// bridge and up, the container's with its name in its namespace. ALREADY_EXISTS:
// that name is in use there.
func addPair(leg leg, namespace int) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = leg.host
	attributes.MasterIndex = leg.bridge
	attributes.Flags = net.FlagUp
	attributes.MTU = int(leg.mtu)
	pair := &netlink.Veth{
		LinkAttrs: attributes, PeerName: leg.name, PeerHardwareAddr: leg.mac, PeerNamespace: netlink.NsFd(namespace), PeerMTU: leg.mtu,
	}
	err := netlink.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) {
		// Docker's words: it creates the interface elsewhere and renames it.
		return connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("error renaming interface %q to %q: %w", leg.host, leg.name, err))
	}
	if err != nil {
		return fmt.Errorf("connect %s: %w", leg.name, err)
	}
	if !leg.apart {
		return nil
	}
	if err := netlink.LinkSetIsolated(pair, true); err != nil {
		return errors.Join(fmt.Errorf("set %s apart: %w", leg.name, err), deleteLinkByName(leg.host))
	}
	return nil
}

// configure runs inside the namespace. It sets the address before the link is up,
// so that arp_notify has one to announce.
func configure(handle *netlink.Handle, link netlink.Link, leg leg) error {
	if err := handle.AddrReplace(link, &netlink.Addr{IPNet: leg.address}); err != nil {
		return fmt.Errorf("address %s: %w", leg.address, err)
	}
	if err := setInterfaceSysctls(link.Attrs().Name, leg.sysctls); err != nil {
		return err
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if leg.gateway == nil {
		return nil
	}
	if err := handle.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: leg.gateway}); err != nil {
		return fmt.Errorf("default route by %s: %w", leg.gateway, err)
	}
	return nil
}

// Delete deletes the namespace and its links. It may be repeated. It deletes the
// machine's ends by name instead of leaving them to the kernel, so that their
// bridge ports are gone when it returns.
func (i *Instance) Delete(containerID string, generation uint64, path string) error {
	failures := []error{i.deleteRewired(containerID, generation, path)}
	for index := 0; ; index++ {
		link, err := netlink.LinkByName(i.vethName(containerID, generation, index))
		if isNotFound(err) {
			break
		}
		if err != nil {
			failures = append(failures, err)
			break
		}
		failures = append(failures, deleteLink(link))
	}
	return errors.Join(errors.Join(failures...), deleteNamespace(path))
}

func deleteLinkByName(name string) error {
	link, err := netlink.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return deleteLink(link)
}
