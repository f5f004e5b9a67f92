package host_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

// prepareSpare prepares a container like the one that a request launches.
func (h *hostProcess) prepareSpare(t testing.TB, request *hostv1.LaunchContainerRequest) error {
	t.Helper()
	_, err := h.PrepareSpare(t.Context(), connect.NewRequest(&hostv1.PrepareSpareRequest{
		Create: &hostv1.CreateContainerRequest{ContainerId: request.ContainerId, LayerDiffIds: request.LayerDiffIds},
		Launch: request,
	}))
	return err
}

func (h *hostProcess) mustPrepare(t testing.TB, request *hostv1.LaunchContainerRequest) (id string) {
	t.Helper()
	if err := h.prepareSpare(t, request); err != nil {
		t.Fatal(err)
	}
	return request.ContainerId
}

func (h *hostProcess) createAs(t testing.TB, id, layer string) {
	t.Helper()
	if _, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{ContainerId: id, LayerDiffIds: []string{layer}})); err != nil {
		t.Fatal(err)
	}
}

func TestASpareRunsTheCommandThatItIsLaunchedWith(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	request := sleeper(t, randomID(), layer, noNetwork())
	id := h.mustPrepare(t, request)
	if h.onDisk(t, id) != nil {
		t.Error("it is listed")
	}
	waiting := processesNaming(t, id)
	h.createAs(t, id, layer)
	request.OciSpec = ociSpec(t, "sh", "-c", "echo out; ls -l /proc/self/fd; exit 7")
	c := h.mustLaunch(t, request)
	if now := processesNaming(t, id); strings.Join(now, "") != strings.Join(waiting, "") {
		t.Errorf("it is not claimed: %v, then %v", waiting, now)
	}
	c.start(t, 1)
	if output := c.output(t); !strings.Contains(output, "out\n") {
		t.Errorf("output %q", output)
	}
	if code := c.exitCode(t); code != 7 {
		t.Errorf("exit code %d", code)
	}
	h.release(t, id)
	h.remove(t, id)
	h.wantNothingLeft(t, id)
}
