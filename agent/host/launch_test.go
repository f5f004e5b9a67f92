package host_test

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

func (h *hostProcess) ensureNetwork(t testing.TB, request *hostv1.EnsureNetworkRequest) {
	t.Helper()
	if _, err := h.EnsureNetwork(t.Context(), connect.NewRequest(request)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if h.command != nil {
			h.RemoveNetwork(context.Background(), connect.NewRequest(&hostv1.RemoveNetworkRequest{NetworkId: request.NetworkId, Bridge: request.Bridge}))
		}
	})
}

func onBridge(bridge, address, gateway string) *hostv1.NetworkNamespace {
	return &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_Bridged{Bridged: &hostv1.Bridged{
		Interfaces: []*hostv1.Interface{{NetworkId: "n", Bridge: bridge, Address: address, Gateway: gateway, Mac: "02:42:0a:d5:01:02"}},
	}}}
}

func TestAContainerOnABridgeRunsAndEnds(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	h.ensureNetwork(t, &hostv1.EnsureNetworkRequest{NetworkId: "n", Bridge: "skltest0", Gateway: "10.213.1.1/24"})
	id := h.create(t, layer)
	c := h.mustLaunch(t, &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: 1, LayerDiffIds: []string{layer}, User: "alice",
		OciSpec: ociSpec(t, "sh", "-c", "id; ip -4 addr show eth0; ip route; cat /etc/hostname"),
		Network: onBridge("skltest0", "10.213.1.2/24", "10.213.1.1"),
		Files:   []*hostv1.ManagedFile{{ContainerPath: "/etc/hostname", Content: []byte("the-name\n"), Mode: 0o644}},
	})
	c.start(t, 1)
	output := c.output(t)
	for _, want := range []string{"uid=1000(alice) gid=100(users) groups=29(audio),100(users)", "inet 10.213.1.2/24",
		"default via 10.213.1.1 dev eth0", "the-name\n"} {
		if !strings.Contains(output, want) {
			t.Errorf("%q is not in\n%s", want, output)
		}
	}
	h.release(t, id)
	if state := h.onDisk(t, id); state == nil || state.ShimAlive || state.Generation != 1 || state.GetLastState().GetExit() == nil {
		t.Errorf("after release: %v", state)
	}
}
