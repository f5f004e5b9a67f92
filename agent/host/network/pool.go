package network

import (
	"errors"
	"fmt"
	"net"
	"os"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// poolLock serialises the use of address pools; it stays, empty, until the next
// boot. All instances on the machine share it, wherever their files are.
const poolLock = "/run/sockerless-address-pools.lock"

// lockPools keeps other instances from taking address pools until unlock, or
// until the process ends.
func lockPools() (unlock func(), err error) {
	file, err := os.OpenFile(poolLock, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the address pools: %w", err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock the address pools: %w", err)
		}
	}
}

// requireFree checks that no other link has an address of the subnet, up or not,
// and that no route leads there. RESOURCE_EXHAUSTED names what does.
func (i *Instance) requireFree(bridge string, subnet *net.IPNet) error {
	// The kernel lists the addresses of all links, whichever is asked for.
	addresses, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("the machine's addresses: %w", err)
	}
	for _, address := range addresses {
		if !overlap(subnet, address.IPNet) {
			continue
		}
		link, err := netlink.LinkByIndex(address.LinkIndex)
		if isNotFound(err) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("look for the link with %s: %w", address.IPNet, err)
		}
		if name := link.Attrs().Name; name != bridge {
			return taken(subnet, name)
		}
	}
	routes, err := i.Routes()
	if err != nil {
		return err
	}
	for _, route := range routes {
		if _, destination, err := net.ParseCIDR(route); err == nil && overlap(subnet, destination) {
			return taken(subnet, "a route to "+route)
		}
	}
	return nil
}

func overlap(a, b *net.IPNet) bool {
	return a.Contains(b.IP.Mask(b.Mask)) || b.Contains(a.IP.Mask(a.Mask))
}

func taken(subnet *net.IPNet, by string) error {
	masked := net.IPNet{IP: subnet.IP.Mask(subnet.Mask), Mask: subnet.Mask}
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("the address pool %s is taken by %s", &masked, by))
}
