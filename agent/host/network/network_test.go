package network

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/vishvananda/netlink"
	"gotest.tools/v3/assert"
)

func TestContainersOfOneBridgeReachEachOtherAndTheMachine(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Isolate: true})
	a, b := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2"), l.container("bbbbbbbbbbbb", "skl0", "10.213.1.3")
	if seen := l.dial(a, l.listen(b, "10.213.1.3")); seen != "10.213.1.2" {
		t.Errorf("b sees %q", seen)
	}
	if seen := l.dial(a, l.listen(a, "127.0.0.1")); seen != "127.0.0.1" {
		t.Errorf("loopback: %q", seen)
	}
	machine := l.listen("/proc/self/ns/net", "10.213.1.1")
	if seen := l.dial(a, machine); seen != "10.213.1.2" {
		t.Errorf("the machine sees %q", seen)
	}
}

func TestTheOutsideSeesTheMachinesAddress(t *testing.T) {
	l := newLab(t)
	outside := l.outside()
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Isolate: true})
	container := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2")
	if seen := l.dial(container, l.listen(outside, outsideAddress)); seen != machineAddress {
		t.Errorf("the outside sees %q", seen)
	}
}

func TestTheOutsideReachesNoContainer(t *testing.T) {
	l := newLab(t)
	outside := l.outside()
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Isolate: true})
	container := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2")
	if seen := l.dialOnce(outside, l.listen(container, "10.213.1.2")); seen != "" {
		t.Errorf("a container answered %q", seen)
	}
}

func TestAnInternalBridgeHasNoWayOut(t *testing.T) {
	l := newLab(t)
	outside := l.outside()
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Internal: true})
	a, b := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2"), l.container("bbbbbbbbbbbb", "skl0", "10.213.1.3")
	if seen := l.dialOnce(a, l.listen(outside, outsideAddress)); seen != "" {
		t.Errorf("the outside answered %q", seen)
	}
	if seen := l.dial(a, l.listen(b, "10.213.1.3")); seen != "10.213.1.2" {
		t.Errorf("b sees %q", seen)
	}
}

func TestIsolatedBridgesAreApartAndOthersAreNot(t *testing.T) {
	for isolate, want := range map[bool]string{true: "", false: "10.213.1.2"} {
		l := newLab(t)
		dial := l.dial
		if isolate {
			dial = l.dialOnce
		}
		t.Run(map[bool]string{true: "isolated", false: "open"}[isolate], func(t *testing.T) {
			l.t = t
			l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Isolate: isolate})
			l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24"})
			a, b := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2"), l.container("bbbbbbbbbbbb", "skl1", "10.213.2.2")
			if seen := dial(a, l.listen(b, "10.213.2.2")); seen != want {
				t.Errorf("b sees %q, want %q", seen, want)
			}
		})
		l.t = t
	}
}

func TestABridgeThatIsToBeAloneTakesNoPoolOfAnothers(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Alone: true})
	l.must(l.Ensure(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Alone: true})) // it is there
	down := netlink.NewLinkAttrs()
	down.Name = "down0"
	l.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: down}))
	link, err := netlink.LinkByName("down0")
	l.must(err)
	defer func() { l.must(netlink.LinkDel(link)) }()
	l.must(netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 213, 2, 9), Mask: net.CIDRMask(24, 32)}}))
	for gateway, by := range map[string]string{"10.213.1.129/25": "skl0", "10.213.0.1/16": "skl0", "10.213.2.1/24": "down0"} {
		err := l.Ensure(Bridge{Name: "skl1", Gateway: gateway, Alone: true})
		assert.Check(t, connect.CodeOf(err) == connect.CodeResourceExhausted, "%s beside %s: %v", gateway, by, err)
	}
	if _, err := netlink.LinkByName("skl1"); err == nil {
		t.Error("a bridge without a pool is left")
	}
	l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24"}) // whoever asks for it gets it
}

func TestInstancesThatStartAtOnceTakePoolsOfTheirOwn(t *testing.T) {
	l := newLab(t)
	const instances = 6
	made := make(chan error, instances)
	for n := range instances {
		go func() {
			made <- l.Ensure(Bridge{Name: fmt.Sprintf("skl%d", n), Gateway: "10.213.1.1/24", Alone: true})
		}()
	}
	won := 0
	for range instances {
		switch err := <-made; {
		case err == nil:
			won++
		case connect.CodeOf(err) != connect.CodeResourceExhausted:
			t.Error(err)
		}
	}
	assert.Check(t, won == 1, "%d of them have the pool", won)
	for n := range instances {
		l.must(l.Remove(fmt.Sprintf("skl%d", n)))
	}
}

func TestAContainerOnTwoBridgesReachesBothAndLeavesByTheFirst(t *testing.T) {
	l := newLab(t)
	outside := l.outside()
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Isolate: true})
	l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24", Internal: true})
	both := Namespace{
		ContainerID: "cccccccccccc", Generation: 7, Path: filepath.Join(l.netnsDir, "cccccccccccc"),
		Interfaces: []Interface{
			{Bridge: "skl0", Address: "10.213.1.4/24", Gateway: "10.213.1.1", MAC: "02:42:0a:d5:01:04"},
			{Bridge: "skl1", Address: "10.213.2.4/24"},
		},
	}
	l.must(l.Create(both))
	defer func() { l.must(l.Delete("cccccccccccc", 7, both.Path)) }()
	first, second := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2"), l.container("bbbbbbbbbbbb", "skl1", "10.213.2.2")
	for listener, want := range map[string]string{
		l.listen(first, "10.213.1.2"): "10.213.1.4", l.listen(second, "10.213.2.2"): "10.213.2.4", l.listen(outside, outsideAddress): machineAddress,
	} {
		if seen := l.dial(both.Path, listener); seen != want {
			t.Errorf("%s sees %q, want %q", listener, seen, want)
		}
	}
	if seen := l.dialOnce(first, l.listen(second, "10.213.2.2")); seen != "" {
		t.Errorf("the bridges are connected: %q", seen)
	}
	l.in(both.Path, func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil && link.Attrs().HardwareAddr.String() != "02:42:0a:d5:01:04" {
			t.Errorf("MAC %s", link.Attrs().HardwareAddr)
		}
		return err
	})
}

// A dockerd beside us sets the policy of ip filter FORWARD to drop.
func TestAForeignDropPolicyLetsOursPass(t *testing.T) {
	l := newLab(t)
	outside := l.outside()
	for _, rule := range []string{"-P FORWARD DROP", "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER"} {
		iptables(t, strings.Fields(rule)...)
	}
	defer nft(t, "delete", "table", "ip", "filter")
	before := iptables(t, "-S")
	bridge := Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Isolate: true}
	l.bridge(bridge)
	l.must(l.Ensure(bridge))
	if rules := iptables(t, "-S"); strings.Count(rules, "-j ACCEPT") != 2 {
		t.Errorf("iptables reads\n%s", rules)
	}
	container := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2")
	if seen := l.dial(container, l.listen(outside, outsideAddress)); seen != machineAddress {
		t.Errorf("the outside sees %q", seen)
	}
	if seen := l.dialOnce(outside, l.listen(container, "10.213.1.2")); seen != "" {
		t.Errorf("a container answered %q", seen)
	}
	l.must(l.Delete("aaaaaaaaaaaa", 1, container))
	l.must(l.Remove("skl0"))
	if after := iptables(t, "-S"); after != before {
		t.Errorf("after removal\n%s\nbefore\n%s", after, before)
	}
}

func iptables(t *testing.T, arguments ...string) string {
	t.Helper()
	if _, err := exec.LookPath("iptables-nft"); err != nil {
		t.Skip("iptables is not installed")
	}
	output, err := exec.Command("iptables-nft", arguments...).CombinedOutput()
	assert.NilError(t, err, "iptables %v: %s", arguments, output)
	return string(output)
}

func TestEnsureAndRemoveMayBeRepeated(t *testing.T) {
	l := newLab(t)
	bridge := Bridge{Name: "skl0", Gateway: "10.213.1.1/24"}
	l.must(l.Ensure(bridge))
	l.must(l.Ensure(Bridge{Name: "skl1", Gateway: "10.213.2.1/24", Internal: true}))
	first := nft(t, "list", "ruleset")
	l.must(l.Ensure(bridge))
	if again := nft(t, "list", "ruleset"); again != first {
		t.Errorf("the second Ensure changed\n%s\nto\n%s", first, again)
	}
	routes, err := l.Routes()
	if err != nil || len(routes) != 0 {
		t.Errorf("our own bridges are among the routes: %v, %v", routes, err)
	}
	for range 2 {
		l.must(l.Remove("skl0"))
		l.must(l.Remove("skl1"))
	}
}

func TestABridgeIsRemovedThoughSomebodyHasDeletedASet(t *testing.T) {
	for _, deleted := range []string{"nat", "bridges"} {
		l := newLab(t)
		l.must(l.Ensure(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"}))
		nft(t, "flush", "table", "inet", l.table())
		nft(t, "delete", "set", "inet", l.table(), deleted)
		l.must(l.Remove("skl0"))
	}
}

func TestOtherBridgesKeepTheirSetsWhereSomebodyHasDeletedOne(t *testing.T) {
	l := newLab(t)
	l.must(l.Ensure(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"}))
	l.must(l.Ensure(Bridge{Name: "skl1", Gateway: "10.213.2.1/24"}))
	nft(t, "flush", "table", "inet", l.table())
	nft(t, "delete", "set", "inet", l.table(), "bridges")
	l.must(l.Remove("skl0"))
	assert.Check(t, strings.Contains(nft(t, "list", "set", "inet", l.table(), "within"), "skl1"))
	l.must(l.Remove("skl1"))
}

func TestAnInterfaceOfSomebodyElseIsLeftAlone(t *testing.T) {
	l := newLab(t)
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "skl0"
	foreign := &netlink.Bridge{LinkAttrs: attributes}
	l.must(netlink.LinkAdd(foreign))
	defer netlink.LinkDel(foreign)
	if err := l.Ensure(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"}); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("got %v", err)
	}
	l.must(l.Remove("skl0"))
	if _, err := netlink.LinkByName("skl0"); err != nil {
		t.Error("it was deleted")
	}
}

func TestACreationThatFailsLeavesNothing(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"})
	good := Interface{Bridge: "skl0", Address: "10.213.1.2/24", Gateway: "10.213.1.1"}
	for name, c := range map[string]struct {
		broken Interface
		want   connect.Code
	}{
		"no bridge":           {Interface{Bridge: "nowhere", Address: "10.213.1.3/24"}, connect.CodeNotFound},
		"no address":          {Interface{Bridge: "skl0", Address: "rubbish"}, connect.CodeInvalidArgument},
		"no MAC":              {Interface{Bridge: "skl0", Address: "10.213.1.3/24", MAC: "rubbish"}, connect.CodeInvalidArgument},
		"unreachable gateway": {Interface{Bridge: "skl0", Address: "10.213.1.3/24", Gateway: "10.99.9.9"}, connect.CodeUnknown},
	} {
		path := filepath.Join(l.netnsDir, "aaaaaaaaaaaa")
		err := l.Create(Namespace{ContainerID: "a", Generation: 1, Path: path, Interfaces: []Interface{good, c.broken}})
		assert.Check(t, connect.CodeOf(err) == c.want, "%s: %v", name, err)
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: the namespace is left", name)
		}
		for index := range 2 {
			if _, err := netlink.LinkByName(l.vethName("a", 1, index)); err == nil {
				t.Errorf("%s: link %d is left", name, index)
			}
		}
	}
}

func TestReclaimKeepsOnlyWhatItIsGiven(t *testing.T) {
	l := newLab(t)
	l.must(l.Ensure(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"}))
	l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24"})
	kept := l.container("aaaaaaaaaaaa", "skl1", "10.213.2.2")
	orphan := l.container("bbbbbbbbbbbb", "skl1", "10.213.2.3")
	link, err := netlink.LinkByName("skl0")
	l.must(err)
	l.must(netlink.LinkDel(link)) // its rules are orphans now

	l.must(l.Reclaim([]Namespace{{ContainerID: "aaaaaaaaaaaa", Generation: 1, Path: kept}}))
	if _, err := os.Lstat(orphan); err == nil {
		t.Error("the orphan is left")
	}
	if _, err := netlink.LinkByName(l.vethName("bbbbbbbbbbbb", 1, 0)); err == nil {
		t.Error("the orphan's link is left")
	}
	if _, err := netlink.LinkByName(l.vethName("aaaaaaaaaaaa", 1, 0)); err != nil {
		t.Error("the kept link is gone")
	}
	if rules := nft(t, "list", "ruleset"); strings.Contains(rules, "skl0") || !strings.Contains(rules, "skl1") {
		t.Errorf("rules:\n%s", rules)
	}
}

func BenchmarkCreateAndDelete(b *testing.B) {
	l := newLab(b)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"})
	for b.Loop() {
		namespace := Namespace{
			ContainerID: "aaaaaaaaaaaa", Generation: 1, Path: filepath.Join(l.netnsDir, "aaaaaaaaaaaa"),
			Interfaces: []Interface{{Bridge: "skl0", Address: "10.213.1.2/24", Gateway: "10.213.1.1"}},
		}
		l.must(l.Create(namespace))
		b.StopTimer()
		l.must(l.Delete("aaaaaaaaaaaa", 1, namespace.Path))
		b.StartTimer()
	}
}

func TestABridgeThatNobodyCameToMarkIsMadeAgainAndRemoved(t *testing.T) {
	l := newLab(t)
	unmarked := func() netlink.Link {
		t.Helper()
		attributes := netlink.NewLinkAttrs()
		attributes.Name = "br-0123456789ab"
		l.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}))
		link, err := netlink.LinkByName(attributes.Name)
		l.must(err)
		return link
	}
	unmarked()
	l.bridge(Bridge{Name: "br-0123456789ab", Gateway: "10.213.1.1/24"})
	l.must(l.Remove("br-0123456789ab"))
	unmarked()
	l.must(l.Remove("br-0123456789ab"))

	others := unmarked()
	l.must(netlink.LinkSetAlias(others, "somebody's"))
	if err := l.Ensure(Bridge{Name: "br-0123456789ab", Gateway: "10.213.1.1/24"}); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("a bridge of somebody else's: %v", err)
	}
	l.must(l.Remove("br-0123456789ab"))
	l.must(netlink.LinkDel(others)) // it is still there
}
