package network

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
	"gotest.tools/v3/assert"
)

// joined makes a namespace with these interfaces.
func (l *lab) joined(name string, interfaces ...Interface) Namespace {
	l.t.Helper()
	namespace := Namespace{ContainerID: name, Generation: 1, Path: filepath.Join(l.netnsDir, name), Interfaces: interfaces}
	l.must(l.Create(namespace))
	l.t.Cleanup(func() { l.must(l.Delete(name, 1, namespace.Path)) })
	return namespace
}

// addresses of a namespace's interfaces, by name.
func (l *lab) addresses(path string) map[string]string {
	l.t.Helper()
	found := map[string]string{}
	l.in(path, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, address := range addresses {
				if name := link.Attrs().Name; name != "lo" {
					found[name] = address.IP.String()
				}
			}
		}
		return nil
	})
	return found
}

func (l *lab) wantAddresses(path string, want map[string]string) {
	l.t.Helper()
	got := l.addresses(path)
	for name, address := range want {
		if got[name] != address {
			l.t.Errorf("%s has %q, want %q", name, got[name], address)
		}
	}
	if len(got) != len(want) {
		l.t.Errorf("interfaces %v, want %v", got, want)
	}
}

func TestInterfacesAreNamedAroundThoseThatHaveNames(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"})
	l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24"})
	l.bridge(Bridge{Name: "skl2", Gateway: "10.213.3.1/24"})
	third := Interface{Bridge: "skl2", Address: "10.213.3.2/24"}
	a := l.joined("aaaaaaaaaaaa",
		Interface{Bridge: "skl0", Address: "10.213.1.2/24", Name: "eth1"},
		Interface{Bridge: "skl1", Address: "10.213.2.2/24"})
	l.wantAddresses(a.Path, map[string]string{"eth0": "10.213.2.2", "eth1": "10.213.1.2"})
	for range 2 { // it may be repeated
		l.must(l.Connect(a, third, ""))
	}
	l.wantAddresses(a.Path, map[string]string{"eth0": "10.213.2.2", "eth1": "10.213.1.2", "eth2": "10.213.3.2"})
	l.must(l.Disconnect(a, "skl1", ""))
	l.must(l.Disconnect(a, "skl2", ""))
	l.must(l.Connect(a, third, ""))
	l.wantAddresses(a.Path, map[string]string{"eth0": "10.213.3.2", "eth1": "10.213.1.2"})
}

func TestANameThatIsTakenIsRefused(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"})
	l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24"})
	a := l.joined("aaaaaaaaaaaa", Interface{Bridge: "skl0", Address: "10.213.1.2/24", Prefix: "up"})
	err := l.Connect(a, Interface{Bridge: "skl1", Address: "10.213.2.2/24", Name: "up0"}, "")
	if connect.CodeOf(err) != connect.CodeAlreadyExists || !strings.Contains(err.Error(), "error renaming interface") ||
		!strings.Contains(err.Error(), "file exists") {
		t.Errorf("a second up0: %v", err)
	}
	l.wantAddresses(a.Path, map[string]string{"up0": "10.213.1.2"})
}

func TestAnInterfaceHasItsSysctlsAndMTU(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", MTU: 1234})
	wanted := Interface{Bridge: "skl0", Address: "10.213.1.2/24", MTU: 1234, Sysctls: []Sysctl{{"ipv4", "conf", "forwarding", "0"}}}
	a := l.joined("aaaaaaaaaaaa", wanted)
	l.in(a.Path, func() error {
		value, err := os.ReadFile("/proc/sys/net/ipv4/conf/eth0/forwarding")
		assert.Check(t, string(value) == "0\n", "forwarding is %q", value)
		return err
	})
	for _, path := range []string{a.Path, "/proc/self/ns/net"} {
		l.in(path, func() error {
			links, err := netlink.LinkList()
			for _, link := range links {
				if attributes := link.Attrs(); attributes.Index != 1 && attributes.MTU != 1234 {
					t.Errorf("the MTU of %s is %d", attributes.Name, attributes.MTU)
				}
			}
			return err
		})
	}
	for _, name := range []string{"nothing", "../../../../kernel/hostname", ".."} {
		wanted.Sysctls = []Sysctl{{"ipv4", "conf", name, "x"}}
		err := l.Create(Namespace{ContainerID: "bbbbbbbbbbbb", Path: filepath.Join(l.netnsDir, "b"), Interfaces: []Interface{wanted}})
		assert.Check(t, connect.CodeOf(err) == connect.CodeInvalidArgument, "%s: %v", name, err)
	}
}

func TestContainersOfABridgeThatAreApartReachTheMachineAlone(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Apart: true})
	leg := func(address string) Interface {
		return Interface{Bridge: "skl0", Address: address + "/24", Gateway: "10.213.1.1", Apart: true}
	}
	a, b := l.joined("aaaaaaaaaaaa", leg("10.213.1.2")), l.joined("bbbbbbbbbbbb", leg("10.213.1.3"))
	if seen := l.dial(a.Path, l.listen("/proc/self/ns/net", "10.213.1.1")); seen != "10.213.1.2" {
		t.Errorf("the machine sees %q", seen)
	}
	peer := l.listen(b.Path, "10.213.1.3")
	if seen := l.dialOnce(a.Path, peer); seen != "" {
		t.Errorf("b sees %q", seen)
	}
	// Nor by way of the machine.
	l.in(a.Path, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		peer := &net.IPNet{IP: net.IPv4(10, 213, 1, 3), Mask: net.CIDRMask(32, 32)}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: peer, Gw: net.IPv4(10, 213, 1, 1)})
	})
	if seen := l.dialOnce(a.Path, peer); seen != "" {
		t.Errorf("b sees %q by way of the machine", seen)
	}
}

func TestWhatLeavesHasTheAddressThatTheNetworkSays(t *testing.T) {
	for name, bridge := range map[string]Bridge{
		"10.214.9.77": {Source: "10.214.9.77"},
		"10.213.1.2":  {Unmasked: true},
	} {
		l := newLab(t)
		t.Run(name, func(t *testing.T) {
			l.t = t
			outside := l.outside() // answers by way of the machine
			bridge.Name, bridge.Gateway, bridge.Isolate = "skl0", "10.213.1.1/24", true
			l.bridge(bridge)
			uplink, err := netlink.LinkByName("uplink")
			l.must(err)
			second, _ := netlink.ParseAddr("10.214.9.77/24")
			l.must(netlink.AddrAdd(uplink, second))
			container := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2")
			if seen := l.dial(container, l.listen(outside, outsideAddress)); seen != name {
				t.Errorf("the outside sees %q", seen)
			}
		})
	}
}

func TestABridgeWithoutAnAddressOfTheMachineJoinsTwo(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.0/31", Internal: true, Unaddressed: true})
	link, err := netlink.LinkByName("skl0")
	l.must(err)
	if addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL); err != nil || len(addresses) > 0 {
		t.Errorf("the bridge has %v (%v)", addresses, err)
	}
	a := l.joined("aaaaaaaaaaaa", Interface{Bridge: "skl0", Address: "10.213.1.0/31", MAC: "02:42:0a:d5:01:00"})
	b := l.joined("bbbbbbbbbbbb", Interface{Bridge: "skl0", Address: "10.213.1.1/31", MAC: "02:42:0a:d5:01:01"})
	if seen := l.dial(b.Path, l.listen(a.Path, "10.213.1.0")); seen != "10.213.1.1" {
		t.Errorf("a sees %q", seen)
	}
}

func TestABridgeThatIsThereIsUsedWhereAUserNamesIt(t *testing.T) {
	l := newLab(t)
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "mine"
	l.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}))
	bridge := Bridge{Name: "mine", Gateway: "10.213.1.1/24"}
	if err := l.Ensure(bridge); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("a bridge that nobody named: %v", err)
	}
	bridge.Given = true
	l.must(l.Ensure(bridge))
	l.must(l.Remove("mine"))
	link, err := netlink.LinkByName("mine")
	l.must(err)
	l.must(netlink.LinkDel(link))
	if err := l.Ensure(Bridge{Name: "lo", Gateway: "10.213.1.1/24", Given: true}); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("loopback as a bridge: %v", err)
	}
}
