package network

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// mostInterfaces bounds the legs of a kept container that are looked for.
const mostInterfaces = 64

// Reclaim removes bound namespaces that are not in keep, veths of the instance
// that keep's containers do not use, and rules of missing bridges. It ignores the
// interfaces of keep.
func (i *Instance) Reclaim(keep []Namespace) error {
	paths := map[string]bool{}
	links := map[string]bool{}
	for _, namespace := range keep {
		paths[namespace.Path] = true
		for index := range mostInterfaces {
			links[i.vethName(namespace.ContainerID, namespace.Generation, index)] = true
		}
	}
	return errors.Join(i.reclaimLinks(links), i.reclaimNamespaces(paths), i.reclaimRules())
}

func (i *Instance) reclaimLinks(keep map[string]bool) error {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return err
	}
	var failures []error
	for _, link := range links {
		name := link.Attrs().Name
		if link.Type() == "veth" && strings.HasPrefix(name, i.vethPrefix()) && len(name) == maxLinkName && !keep[name] {
			failures = append(failures, deleteLink(link))
		}
	}
	return errors.Join(failures...)
}

func (i *Instance) reclaimNamespaces(keep map[string]bool) error {
	entries, err := os.ReadDir(i.netnsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var failures []error
	for _, entry := range entries {
		if path := filepath.Join(i.netnsDir, entry.Name()); !keep[strings.TrimSuffix(path, rewired)] {
			failures = append(failures, deleteNamespace(path))
		}
	}
	return errors.Join(failures...)
}

// Routes lists the destinations of the machine's routes in CIDR form, except
// default routes and those of the instance's own bridges.
func (i *Instance) Routes() ([]string, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	own, err := i.bridges()
	if err != nil {
		return nil, err
	}
	destinations := []string{}
	seen := map[string]bool{}
	for _, route := range routes {
		if route.Dst == nil || own[route.LinkIndex] {
			continue
		}
		if ones, _ := route.Dst.Mask.Size(); ones == 0 {
			continue
		}
		if destination := route.Dst.String(); !seen[destination] {
			seen[destination] = true
			destinations = append(destinations, destination)
		}
	}
	return destinations, nil
}

// bridges finds the instance's bridges by their alias; keys are link indices.
func (i *Instance) bridges() (map[int]bool, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	found := map[int]bool{}
	for _, link := range links {
		if i.owns(link) {
			found[link.Attrs().Index] = true
		}
	}
	return found, nil
}
