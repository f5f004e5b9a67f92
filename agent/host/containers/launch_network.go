package containers

import (
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/network"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// makeNetwork runs concurrently with prepareFiles, which needs only the
// namespace's path.
func (l *launch) makeNetwork() error {
	kind := l.request.GetNetwork()
	if kind.GetHost() || kind.GetContainerId() != "" {
		return nil
	}
	return l.network.Create(l.ownNetwork())
}

// ownNetwork is the network of a container that does not share one.
func (l *launch) ownNetwork() network.Namespace {
	own := network.Namespace{
		ContainerID: l.request.ContainerId, Generation: l.request.Generation,
		Path: l.layout.NetworkNamespace(l.request.ContainerId),
	}
	for _, i := range l.request.GetNetwork().GetBridged().GetInterfaces() {
		own.Interfaces = append(own.Interfaces, interfaceOf(i))
	}
	return own
}

func interfaceOf(i *hostv1.Interface) network.Interface {
	wanted := network.Interface{
		Bridge: i.GetBridge(), Address: i.GetAddress(), Gateway: i.GetGateway(), MAC: i.GetMac(),
		Name: i.GetName(), Prefix: i.GetPrefix(), MTU: i.GetMtu(), Apart: i.GetApart(),
	}
	for _, sysctl := range i.GetSysctls() {
		wanted.Sysctls = append(wanted.Sysctls, network.Sysctl{
			Family: sysctl.Family, Table: sysctl.Table, Name: sysctl.Name, Value: sysctl.Value,
		})
	}
	return wanted
}

// networkNamespace is the path of the container's network namespace.
func (l *launch) networkNamespace() (string, error) {
	switch kind := l.request.GetNetwork().GetKind().(type) {
	case *hostv1.NetworkNamespace_Host:
		return "", nil
	case *hostv1.NetworkNamespace_None, *hostv1.NetworkNamespace_Bridged:
		return l.layout.NetworkNamespace(l.request.ContainerId), nil
	case *hostv1.NetworkNamespace_ContainerId:
		return l.sharedNamespace(kind.ContainerId)
	}
	return "", connect.NewError(connect.CodeInvalidArgument, errors.New("no kind of network is given"))
}

func (l *launch) sharedNamespace(id string) (string, error) {
	paths, err := l.Containers.paths(id)
	if err != nil {
		return "", err
	}
	owner, err := readLaunched(paths)
	if err != nil {
		return "", err
	}
	if !owner.runs() {
		return "", connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("cannot join network namespace of a non running container: %s", id))
	}
	return owner.spec.NetworkNamespace, owner.requireWhole(paths)
}
