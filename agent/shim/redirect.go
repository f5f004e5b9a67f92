package shim

import (
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/names"
)

// redirectResolver redirects the container's traffic to port 53 of the resolver's
// address to the resolver's own ports:
//
//	table ip sockerless_resolver {
//	  chain output { type nat hook output priority dstnat
//	    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:<udp>
//	    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:<tcp>
//	  }
//	}
//
// The table lies in the container's namespace and goes with it. A leftover of a
// shim that failed half-way is replaced.
func redirectResolver(namespace *os.File, udp, tcp int) error {
	conn, err := nftables.New(nftables.WithNetNSFd(int(namespace.Fd())))
	if err != nil {
		return err
	}
	accept := nftables.ChainPolicyAccept
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "sockerless_resolver"})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "output", Type: nftables.ChainTypeNAT, Policy: &accept,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	conn.FlushChain(chain)
	for protocol, port := range map[byte]int{unix.IPPROTO_UDP: udp, unix.IPPROTO_TCP: tcp} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: redirection(protocol, uint16(port))})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

func redirection(protocol byte, port uint16) []expr.Any {
	const addressOffset, portOffset = 16, 2 // of the destination in IPv4's and the transport's header
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: addressOffset, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: names.ResolverAddress},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
		&expr.Immediate{Register: 1, Data: names.ResolverAddress},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	}
}
