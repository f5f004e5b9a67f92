package host_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// TestManyContainersLeaveNothing runs containers from creation to removal in
// four lanes, each with an output and an exit code of its own.
func TestManyContainersLeaveNothing(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	const lanes, rounds = 4, 10
	var wait sync.WaitGroup
	for lane := range lanes {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for round := range rounds {
				if err := h.runOnce(t, layer, lane, round); err != nil {
					t.Errorf("lane %d, round %d: %v", lane, round, err)
					return
				}
			}
		}()
	}
	wait.Wait()
	list, err := h.ListContainers(t.Context(), connect.NewRequest(&hostv1.ListContainersRequest{}))
	if err != nil || len(list.Msg.Containers) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	h.wantNothingLeft(t, id64("0"))
	for _, dir := range []string{"c", "netns", "runc", "stored"} {
		left, _ := filepath.Glob(filepath.Join(h.runDir, dir, "*"))
		assert.Check(t, is.Len(left, 0), "left behind")
	}
	assert.Check(t, is.Len(mountsBelow(t, filepath.Dir(h.stateDir)), 0), "still mounted")
	_, err = h.RemoveNetwork(t.Context(), connect.NewRequest(&hostv1.RemoveNetworkRequest{NetworkId: "n", Bridge: testBridge}))
	assert.NilError(t, err)
	tables, err := exec.Command("nft", "list", "tables").Output()
	if err != nil || strings.Contains(string(tables), h.tag()) {
		t.Errorf("tables %s, %v", tables, err)
	}
}

func (h *hostProcess) runOnce(t *testing.T, layer string, lane, round int) error {
	ctx := t.Context()
	id, code := randomID(), int32(lane*10+round)
	if _, err := h.CreateContainer(ctx, connect.NewRequest(&hostv1.CreateContainerRequest{ContainerId: id, LayerDiffIds: []string{layer}})); err != nil {
		return err
	}
	c, err := h.launch(t, &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: 1, LayerDiffIds: []string{layer},
		OciSpec: ociSpec(t, "sh", "-c", fmt.Sprintf("echo lane %d round %d; exit %d", lane, round, code)),
		Network: onTestBridge(lane + 2),
	})
	if err != nil {
		return err
	}
	if _, err := c.Start(ctx, connect.NewRequest(&agentv1.StartRequest{Generation: 1})); err != nil {
		return err
	}
	if output, want := c.output(t), fmt.Sprintf("lane %d round %d\n", lane, round); output != want {
		return fmt.Errorf("output %q, want %q", output, want)
	}
	eventually(t, "the exit is recorded", func() bool { return h.onDisk(t, id).LastState != nil })
	if got := h.onDisk(t, id).LastState.GetExit().GetCode(); got != code {
		return fmt.Errorf("exit code %d, want %d", got, code)
	}
	_, err = h.RemoveContainer(ctx, connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
	return err
}
