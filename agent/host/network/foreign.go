package network

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// A verdict `accept` ends only its own base chain: where another program's
// forward chain drops by default (dockerd's and ufw's do), our packets need an
// accept there too. Each bridge gets two rules, `-i BRIDGE -j ACCEPT` and `-o
// BRIDGE -j ACCEPT`, encoded exactly as iptables does, because iptables refuses a
// whole table with a rule that it cannot read. They let nothing through that our
// own chain stops.

// admitInForeignChains adds those of the two rules that are missing.
func (i *Instance) admitInForeignChains(bridge string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := i.droppingChains(conn)
	if err != nil {
		return err
	}
	mark := i.foreignMark(bridge)
	for _, chain := range chains {
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return fmt.Errorf("rules of %s %s: %w", chain.Table.Name, chain.Name, err)
		}
		if len(marked(rules, mark)) > 0 {
			continue
		}
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			rule := &nftables.Rule{Table: chain.Table, Chain: chain, Exprs: acceptLink(key, bridge), UserData: mark}
			if chain.Name == dockerUserChain {
				conn.InsertRule(rule) // that chain ends with a return
			} else {
				conn.AddRule(rule) // after what its owner wants to be dropped
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("admit %s in foreign chains: %w", bridge, err)
	}
	return nil
}

// dismissFromForeignChains removes the rules, even from chains whose policy has
// changed.
func (i *Instance) dismissFromForeignChains(bridge string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	for _, chain := range chains {
		if !mayBeForeign(chain) || (!isForwardHook(chain) && chain.Name != dockerUserChain) {
			continue
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return fmt.Errorf("rules of %s %s: %w", chain.Table.Name, chain.Name, err)
		}
		for _, rule := range marked(rules, i.foreignMark(bridge)) {
			if err := conn.DelRule(rule); err != nil {
				return err
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("dismiss %s from foreign chains: %w", bridge, err)
	}
	return nil
}

// dockerUserChain is the chain that dockerd reserves for others' rules.
const dockerUserChain = "DOCKER-USER"

// droppingChains lists, for each foreign forward chain that drops by default, the
// chain for our rules.
func (i *Instance) droppingChains(conn *nftables.Conn) ([]*nftables.Chain, error) {
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var found []*nftables.Chain
	for _, chain := range chains {
		if !mayBeForeign(chain) || !isForwardHook(chain) || chain.Policy == nil || *chain.Policy != nftables.ChainPolicyDrop {
			continue
		}
		for _, other := range chains {
			if other.Name == dockerUserChain && other.Table.Name == chain.Table.Name && other.Table.Family == chain.Table.Family {
				chain = other
			}
		}
		found = append(found, chain)
	}
	return found, nil
}

func isForwardHook(chain *nftables.Chain) bool {
	return chain.Hooknum != nil && *chain.Hooknum == *nftables.ChainHookForward && chain.Type == nftables.ChainTypeFilter
}

func mayBeForeign(chain *nftables.Chain) bool {
	family := chain.Table.Family
	return (family == nftables.TableFamilyIPv4 || family == nftables.TableFamilyINet) &&
		!strings.HasPrefix(chain.Table.Name, aliasPrefix)
}

// foreignMark is a comment that `nft list` shows.
func (i *Instance) foreignMark(bridge string) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, i.table()+" "+bridge)
}

func marked(rules []*nftables.Rule, mark []byte) []*nftables.Rule {
	var found []*nftables.Rule
	for _, rule := range rules {
		if bytes.Equal(rule.UserData, mark) {
			found = append(found, rule)
		}
	}
	return found
}

// acceptLink is `-i LINK -j ACCEPT` (or -o). iptables compares names with their
// terminating zero.
func acceptLink(key expr.MetaKey, link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(link), 0)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}
