package network

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/netns"
)

// addLinks adds bridges of networks that nobody uses; they go with the namespace
// of the thread.
func addLinks(count int) (names []string, err error) {
	for n := range count {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = fmt.Sprintf("br-%012x", n)
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
			return nil, err
		}
		names = append(names, attributes.Name)
	}
	return names, nil
}

// addMemberships adds the set elements of the names to the table.
func (i *Instance) addMemberships(names []string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	rules := i.ruleset()
	elements := map[*nftables.Set][]nftables.SetElement{}
	for _, name := range names {
		for set, element := range rules.memberships(Bridge{Name: name, Isolate: true}, nil) {
			elements[set] = append(elements[set], element)
		}
	}
	for set, all := range elements {
		if err := conn.SetAddElements(set, all); err != nil {
			return err
		}
	}
	return conn.Flush()
}

func TestAPoolIsComparedWithAllAddressesAtOnce(t *testing.T) {
	l := newLab(t)
	l.must(onThreadIn(netns.New, func(*netlink.Handle) error {
		names, err := addLinks(300)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName(names[len(names)-1])
		if err != nil {
			return err
		}
		for n := range 1_000 {
			address := net.IPv4(10, 212, byte(n>>8), byte(n))
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: address, Mask: net.CIDRMask(32, 32)}}); err != nil {
				return err
			}
		}
		subnet := func(text string) *net.IPNet {
			_, parsed, err := net.ParseCIDR(text)
			assert.Check(t, err)
			return parsed
		}
		began := time.Now()
		for range 100 {
			if _, err := netlink.AddrList(nil, netlink.FAMILY_V4); err != nil {
				return err
			}
		}
		limit := time.Since(began)
		began = time.Now()
		if err := l.requireFree("skl0", subnet("10.213.1.0/24")); err != nil {
			return err
		}
		if took := time.Since(began); took > limit {
			t.Errorf("it took %v, and 100 listings of the addresses %v", took, limit)
		}
		err = l.requireFree("skl0", subnet("10.212.3.0/24"))
		if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.HasSuffix(err.Error(), "is taken by "+link.Attrs().Name) {
			t.Error(err)
		}
		return l.requireFree(link.Attrs().Name, subnet("10.212.3.0/24"))
	}))
}

func TestAReclaimOfManyNetworksListsTheLinksOnce(t *testing.T) {
	l := newLab(t)
	const networks = 300
	l.must(onThreadIn(netns.New, func(*netlink.Handle) error {
		if err := l.Ensure(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"}); err != nil {
			return err
		}
		names, err := addLinks(networks)
		if err != nil {
			return err
		}
		if err := l.addMemberships(append(names, "gone")); err != nil {
			return err
		}
		began := time.Now()
		if err := l.Reclaim(nil); err != nil {
			return err
		}
		// A listing for each element of a set takes ten seconds.
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		elements, err := conn.GetSetElements(l.ruleset().bridges)
		assert.Check(t, len(elements) == networks+1, "%d bridges are in the set", len(elements))
		return err
	}))
}
