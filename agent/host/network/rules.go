package network

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The instance's table. Rules never change, bridges come and go as elements of
// its sets, and each change is one transaction:
//
//	table inet sockerless_<tag> {
//	  set bridges, nat, internal, open { type ifname }
//	  set within { type ifname . ifname }
//	  map sources { type ifname : ipv4_addr }
//	  chain forward { type filter hook forward priority filter; policy accept
//	    ct state established,related accept
//	    iifname . oifname @within accept          # inside one bridge, where bridges are filtered
//	    iifname @internal drop
//	    iifname @open oifname @open accept        # bridges that are not isolated
//	    oifname @bridges drop                     # nothing else begins a flow to a container
//	  }
//	  chain postrouting { type nat hook postrouting priority srcnat; policy accept
//	    oifname != @bridges snat ip to iifname map @sources
//	    meta nfproto ipv4 iifname @nat oifname != @bridges masquerade
//	  }
//	}
//
// Published ports need no rule: shims listen on the machine and connect from it.

// changes serialises read-modify-write cycles; each write is atomic in the
// kernel.
var changes sync.Mutex

type ruleset struct {
	table                                *nftables.Table
	forward, postrouting                 *nftables.Chain
	bridges, nat, internal, open, within *nftables.Set
	sources                              *nftables.Set
}

func (i *Instance) ruleset() ruleset {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: i.table()}
	accept := nftables.ChainPolicyAccept
	links := func(name string) *nftables.Set {
		return &nftables.Set{Table: table, Name: name, KeyType: nftables.TypeIFName}
	}
	return ruleset{
		table: table,
		forward: &nftables.Chain{
			Table: table, Name: "forward", Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		},
		postrouting: &nftables.Chain{
			Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT, Policy: &accept,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		},
		bridges: links("bridges"), nat: links("nat"), internal: links("internal"), open: links("open"),
		within: &nftables.Set{
			Table: table, Name: "within", Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName),
		},
		sources: &nftables.Set{
			Table: table, Name: "sources", IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeIPAddr,
		},
	}
}

func (r ruleset) sets() []*nftables.Set {
	return []*nftables.Set{r.bridges, r.nat, r.internal, r.open, r.within, r.sources}
}

// memberships returns the set elements for a bridge. source is its parsed Source.
func (r ruleset) memberships(bridge Bridge, source net.IP) map[*nftables.Set]nftables.SetElement {
	key := linkKey(bridge.Name)
	member := nftables.SetElement{Key: key}
	elements := map[*nftables.Set]nftables.SetElement{r.bridges: member}
	if !bridge.Apart {
		elements[r.within] = nftables.SetElement{Key: append(linkKey(bridge.Name), key...)}
	}
	if bridge.Internal {
		elements[r.internal] = member
		return elements
	}
	if !bridge.Unmasked {
		elements[r.nat] = member
		if source != nil {
			elements[r.sources] = nftables.SetElement{Key: key, Val: source}
		}
	}
	if !bridge.Isolate {
		elements[r.open] = member
	}
	return elements
}

func parseSource(text string) (net.IP, error) {
	if text == "" {
		return nil, nil
	}
	address := net.ParseIP(text).To4()
	if address == nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not an IPv4 address", text))
	}
	return address, nil
}

func linkKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

func (i *Instance) addRules(bridge Bridge) error {
	source, err := parseSource(bridge.Source)
	if err != nil {
		return err
	}
	changes.Lock()
	defer changes.Unlock()
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	rules := i.ruleset()
	conn.AddTable(rules.table)
	for _, set := range rules.sets() {
		if err := conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	for _, chain := range []*nftables.Chain{rules.forward, rules.postrouting} {
		conn.AddChain(chain)
		conn.FlushChain(chain)
	}
	for _, expressions := range rules.forwardRules() {
		conn.AddRule(&nftables.Rule{Table: rules.table, Chain: rules.forward, Exprs: expressions})
	}
	for _, expressions := range [][]expr.Any{rules.sourceTranslation(), rules.masquerade()} {
		conn.AddRule(&nftables.Rule{Table: rules.table, Chain: rules.postrouting, Exprs: expressions})
	}
	for set, element := range rules.memberships(bridge, source) {
		if err := conn.SetAddElements(set, []nftables.SetElement{element}); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return i.admitInForeignChains(bridge.Name)
}

func (i *Instance) removeRules(bridge string) error {
	changes.Lock()
	defer changes.Unlock()
	return errors.Join(i.removeElements(func(name string) bool { return name == bridge }), i.dismissFromForeignChains(bridge))
}

// reclaimRules removes the rules of missing bridges.
func (i *Instance) reclaimRules() error {
	changes.Lock()
	defer changes.Unlock()
	links, err := dump(netlink.LinkList)
	if err != nil {
		return err
	}
	isThere := map[string]bool{}
	for _, link := range links {
		isThere[link.Attrs().Name] = true
	}
	gone := map[string]bool{}
	failures := []error{i.removeElements(func(name string) bool {
		if !isThere[name] {
			gone[name] = true
		}
		return !isThere[name]
	})}
	for name := range gone {
		failures = append(failures, i.dismissFromForeignChains(name))
	}
	return errors.Join(failures...)
}

// removeElements removes doomed bridges from all sets, and the table with the
// last bridge.
func (i *Instance) removeElements(doomed func(bridge string) bool) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	rules := i.ruleset()
	if exists, err := tableExists(conn, rules.table); err != nil || !exists {
		return err
	}
	present, err := conn.GetSets(rules.table)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	left := 0
	for _, set := range rules.sets() {
		isPresent := func(other *nftables.Set) bool { return other.Name == set.Name }
		if !slices.ContainsFunc(present, isPresent) {
			continue // deleted by somebody else
		}
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("nftables set %s: %w", set.Name, err)
		}
		var remove []nftables.SetElement
		for _, element := range elements {
			if doomed(linkName(element.Key)) {
				remove = append(remove, nftables.SetElement{Key: element.Key})
			}
		}
		left += len(elements) - len(remove)
		if len(remove) == 0 {
			continue
		}
		if err := conn.SetDeleteElements(set, remove); err != nil {
			return err
		}
	}
	if left == 0 {
		conn.DelTable(rules.table)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

func tableExists(conn *nftables.Conn, table *nftables.Table) (bool, error) {
	tables, err := conn.ListTablesOfFamily(table.Family)
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	for _, found := range tables {
		if found.Name == table.Name {
			return true, nil
		}
	}
	return false, nil
}

// forwardRules are the forward chain's, in the order of the comment above.
func (r ruleset) forwardRules() [][]expr.Any {
	established := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return [][]expr.Any{
		{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: established, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			verdict(expr.VerdictAccept),
		},
		{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 2}, // 16-byte registers: the concatenation
			&expr.Lookup{SourceRegister: 1, SetName: r.within.Name},
			verdict(expr.VerdictAccept),
		},
		append(r.match(expr.MetaKeyIIFNAME, r.internal, false), verdict(expr.VerdictDrop)),
		append(append(r.match(expr.MetaKeyIIFNAME, r.open, false), r.match(expr.MetaKeyOIFNAME, r.open, false)...), verdict(expr.VerdictAccept)),
		append(r.match(expr.MetaKeyOIFNAME, r.bridges, false), verdict(expr.VerdictDrop)),
	}
}

func isIPv4() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
	}
}

// sourceTranslation has no verdict if the map has no address.
func (r ruleset) sourceTranslation() []expr.Any {
	return append(append(isIPv4(), r.match(expr.MetaKeyOIFNAME, r.bridges, true)...),
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: r.sources.Name},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	)
}

func (r ruleset) masquerade() []expr.Any {
	expressions := append(isIPv4(), r.match(expr.MetaKeyIIFNAME, r.nat, false)...)
	expressions = append(expressions, r.match(expr.MetaKeyOIFNAME, r.bridges, true)...)
	return append(expressions, &expr.Masq{})
}

func (r ruleset) match(key expr.MetaKey, set *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, Invert: invert},
	}
}

func verdict(kind expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: kind} }

// linkName is the first name in a set's key.
func linkName(key []byte) string {
	return unix.ByteSliceToString(key[:min(len(key), unix.IFNAMSIZ)])
}
