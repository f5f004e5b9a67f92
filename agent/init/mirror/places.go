package mirror

import (
	"net/netip"
)

// place is where a partner's listener is mirrored here.
type place struct {
	network string // "tcp4", "tcp6", "udp4"; "tcp": an IPv6 socket that takes IPv4 too
	bind    netip.AddrPort
}

// placesOf returns the place of each listener's mirror, with the address that the
// partner bound. own is the address by which others reach this container: a
// listener at the partner's own address is mirrored there.
func placesOf(listeners []netip.AddrPort, own netip.Addr) map[place]netip.Addr {
	takesIPv4 := make(map[uint16]bool)
	for _, listener := range listeners {
		if listener.Addr().Is4() {
			takesIPv4[listener.Port()] = true
		}
	}
	places := make(map[place]netip.Addr)
	for _, listener := range listeners {
		bound := listener.Addr()
		bind := bound
		switch {
		case bound.IsLoopback(), bound.IsUnspecified():
		case bound.IsLinkLocalUnicast():
			continue // the platform's own
		case bound.Is4() == own.Is4() && own.IsValid():
			bind = own
		default:
			continue
		}
		network := "tcp4"
		if bind.Is6() {
			network = "tcp6"
			if bind.IsUnspecified() && !takesIPv4[listener.Port()] {
				network = "tcp"
			}
		}
		at := place{network, netip.AddrPortFrom(bind, listener.Port())}
		if _, taken := places[at]; !taken {
			places[at] = bound
		}
	}
	return places
}

// placesAt does the same for a partner with fixed addresses here.
func placesAt(at []netip.Addr, listeners Listeners) map[place]netip.Addr {
	places := make(map[place]netip.Addr)
	for network, bound := range map[string][]netip.AddrPort{"tcp4": listeners.TCP, "udp4": listeners.UDP} {
		for _, listener := range bound {
			for _, here := range at {
				places[place{network, netip.AddrPortFrom(here, listener.Port())}] = listener.Addr()
			}
		}
	}
	return places
}

// dialled is the address for connections to a partner's listener: for an
// unspecified one the loopback address of the connection's family.
func dialled(bound netip.Addr, cameTo netip.Addr) netip.Addr {
	switch {
	case !bound.IsUnspecified():
		return bound
	case cameTo.Unmap().Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		return netip.IPv6Loopback()
	}
}

// covers reports whether a listener at the place accepts connections to an
// address.
func (at place) covers(address netip.AddrPort) bool {
	to := address.Addr().Unmap().WithZone("")
	if at.bind.Port() != address.Port() {
		return false
	}
	if !at.bind.Addr().IsUnspecified() {
		return at.bind.Addr() == to
	}
	return at.network == "tcp" || at.bind.Addr().Is4() == to.Is4()
}
