package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
)

const maxLinkName = unix.IFNAMSIZ - 1

// Bridge is a network of containers on this machine.
type Bridge struct {
	Name     string // of the interface
	Gateway  string // the bridge's own address with its prefix, "172.17.0.1/16"
	Internal bool   // no NAT, no route out
	Isolate  bool   // no traffic to and from other bridges
	// No other link or route of the machine may use its subnet when it is
	// created.
	Alone bool
	// Its name was chosen by a user: an existing bridge is used, and stays when
	// the network is removed.
	Given       bool
	MTU         uint32 // 0: the kernel's own
	Unaddressed bool   // the machine itself has no address there
	Apart       bool   // its containers do not reach each other
	Unmasked    bool   // what leaves has the containers' addresses
	Source      string // IPv4 source address of outgoing traffic; empty: that of the outgoing link
}

// Ensure creates the bridge, its address and its packet rules; existing ones are
// kept. ALREADY_EXISTS: a link of that name belongs to somebody else.
// RESOURCE_EXHAUSTED: its subnet is in use.
func (i *Instance) Ensure(bridge Bridge) error {
	gateway, err := parseGateway(bridge)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err := enableForwarding(); err != nil {
		return err
	}
	link, err := i.ensureAddressed(bridge, gateway)
	if err != nil {
		return err
	}
	faultpoint.Reached("host.network.addressed")
	// Rules come before the link is up, so that no packet escapes them.
	if err := i.addRules(bridge); err != nil {
		return fmt.Errorf("packet rules of %s: %w", bridge.Name, err)
	}
	faultpoint.Reached("host.network.ruled")
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", bridge.Name, err)
	}
	return nil
}

// enableForwarding turns on forwarding between interfaces. The switch is for the
// whole machine, so the log tells its owner when we turn it on.
func enableForwarding() error {
	const name = "net/ipv4/ip_forward"
	before, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return err
	}
	if string(before) == "1\n" {
		return nil
	}
	slog.Warn("this machine forwards IPv4 packets from now on, for its containers; " +
		"a firewall should keep it from forwarding between its networks")
	return setSysctl(name, "1")
}

func parseGateway(bridge Bridge) (*net.IPNet, error) {
	if bridge.Name == "" || len(bridge.Name) > maxLinkName {
		return nil, fmt.Errorf("a bridge's name has 1 to %d characters, not %q", maxLinkName, bridge.Name)
	}
	address, subnet, err := net.ParseCIDR(bridge.Gateway)
	if err != nil {
		return nil, err
	}
	if address.To4() == nil {
		return nil, fmt.Errorf("the gateway %s is not an IPv4 address", bridge.Gateway)
	}
	return &net.IPNet{IP: address.To4(), Mask: subnet.Mask}, nil
}

func (i *Instance) ensureAddressed(bridge Bridge, gateway *net.IPNet) (netlink.Link, error) {
	if bridge.Alone {
		unlock, err := lockPools()
		if err != nil {
			return nil, err
		}
		defer unlock()
		if err := i.requireFree(bridge.Name, gateway); err != nil {
			return nil, err
		}
	}
	link, err := i.ensureLink(bridge, gateway)
	if err != nil {
		return nil, err
	}
	if bridge.MTU > 0 && link.Attrs().MTU != int(bridge.MTU) {
		if err := netlink.LinkSetMTU(link, int(bridge.MTU)); err != nil {
			return nil, fmt.Errorf("set the MTU of %s to %d: %w", bridge.Name, bridge.MTU, err)
		}
	}
	if bridge.Unaddressed {
		return link, nil
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: gateway}); err != nil {
		return nil, fmt.Errorf("give %s the address %s: %w", bridge.Name, bridge.Gateway, err)
	}
	return link, nil
}

func (i *Instance) ensureLink(bridge Bridge, gateway *net.IPNet) (netlink.Link, error) {
	name := bridge.Name
	link, err := netlink.LinkByName(name)
	switch {
	case err == nil && i.owns(link):
		return link, nil
	case err == nil && isUnmarked(link):
		// Left by a process that was killed between its steps.
		if err := deleteLink(link); err != nil {
			return nil, err
		}
	case err == nil && bridge.Given && link.Type() != "bridge":
		return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("existing interface %s is not a bridge", name))
	case err == nil && bridge.Given && !strings.HasPrefix(link.Attrs().Alias, aliasPrefix):
		return link, nil
	case err == nil:
		return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("the interface %s is not ours", name))
	case !isNotFound(err):
		return nil, fmt.Errorf("look for %s: %w", name, err)
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = name
	// Set explicitly, since a bridge without its own address takes its lowest
	// port's, and changes it as containers come and go.
	attributes.HardwareAddr = hardwareAddress(bridge, gateway.IP)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
		return nil, fmt.Errorf("add bridge %s: %w", name, err)
	}
	faultpoint.Reached("host.network.linked")
	link, err = netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", name, err)
	}
	if err := netlink.LinkSetAlias(link, i.alias()); err != nil {
		return nil, errors.Join(fmt.Errorf("mark %s: %w", name, err), netlink.LinkDel(link))
	}
	// Not every machine has IPv6.
	_ = setSysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1")
	return link, nil
}

// hardwareAddress is locally administered and derived from the IP address.
// Without one the prefix differs, since 02:42 might collide with a container's.
func hardwareAddress(bridge Bridge, address net.IP) net.HardwareAddr {
	beginning := net.HardwareAddr{0x02, 0x42}
	if bridge.Unaddressed {
		beginning = net.HardwareAddr{0x02, 0x43}
	}
	return append(beginning, address.To4()...)
}

// Remove deletes a bridge and its rules, and the table with the last one. It may
// be repeated; a link of somebody else stays.
func (i *Instance) Remove(name string) error {
	link, err := netlink.LinkByName(name)
	switch {
	case isNotFound(err):
	case err != nil:
		return fmt.Errorf("look for %s: %w", name, err)
	case i.owns(link), isUnmarked(link):
		if err := deleteLink(link); err != nil {
			return err
		}
	}
	if err := i.removeRules(name); err != nil {
		return fmt.Errorf("packet rules of %s: %w", name, err)
	}
	return nil
}

// owns reports whether this instance has marked the bridge.
func (i *Instance) owns(link netlink.Link) bool {
	return link.Type() == "bridge" && link.Attrs().Alias == i.alias()
}

// ownName matches names that no user chose: digits of the network's ID, which no
// other instance has.
var ownName = regexp.MustCompile(`^br-[0-9a-f]{12}$`)

// isUnmarked recognises a bridge left half-made: it has one of our names, no
// mark, and was never set up.
func isUnmarked(link netlink.Link) bool {
	attributes := link.Attrs()
	return link.Type() == "bridge" && attributes.Alias == "" && attributes.Flags&net.FlagUp == 0 &&
		ownName.MatchString(attributes.Name)
}

func deleteLink(link netlink.Link) error {
	if err := netlink.LinkDel(link); err != nil && !isNotFound(err) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound)
}

func setSysctl(name, value string) error {
	path := "/proc/sys/" + name
	if current, err := os.ReadFile(path); err == nil && string(current) == value+"\n" {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0o644)
}
