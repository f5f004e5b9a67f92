// Package network creates the networks of one instance: bridges with NAT and
// isolation, and network namespaces connected to them. Everything is created
// through netlink, and carries the instance's tag by which it is found and
// removed.
package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Instance names the resources of one instance of sockerless among others on the
// same machine.
type Instance struct {
	Tag      string // 8 hex digits
	netnsDir string
}

// NewInstance describes the instance with this tag; its namespaces are bound
// below netnsDir.
func NewInstance(tag, netnsDir string) (*Instance, error) {
	if raw, err := hex.DecodeString(tag); err != nil || len(raw) != 4 {
		return nil, fmt.Errorf("%q is not an instance tag of 8 hex digits", tag)
	}
	return &Instance{Tag: tag, netnsDir: netnsDir}, nil
}

// table is the instance's nftables table.
func (i *Instance) table() string { return "sockerless_" + i.Tag }

// aliasPrefix begins the marks of all instances' links.
const aliasPrefix = "sockerless_"

// alias marks links as the instance's (ip link shows it).
func (i *Instance) alias() string { return aliasPrefix + i.Tag }

// vethPrefix begins the machine's end of each container's veth pair: "sk" and
// half of the tag, since a link's name has 15 characters at most.
func (i *Instance) vethPrefix() string { return "sk" + i.Tag[:4] }

// vethName depends on the generation, because the kernel removes the last one's
// asynchronously.
func (i *Instance) vethName(containerID string, generation uint64, index int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", containerID, generation, index))
	return i.vethPrefix() + hex.EncodeToString(sum[:])[:9]
}
