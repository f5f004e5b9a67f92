package host_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

// created is a spare whose container is created.
func (h *hostProcess) created(t testing.TB, layer string) *hostv1.LaunchContainerRequest {
	t.Helper()
	request := spareOf(t, layer, noNetwork(), "echo ran; cat /note 2>&1")
	h.mustPrepare(t, request)
	h.mustCreate(t, createOf(request))
	return request
}

func (h *hostProcess) wantItRuns(t testing.TB, request *hostv1.LaunchContainerRequest, output string) {
	t.Helper()
	c := h.mustLaunch(t, request)
	c.start(t, request.Generation)
	if got := c.output(t); got != output {
		t.Errorf("output %q, not %q", got, output)
	}
	h.remove(t, request.ContainerId)
	h.wantNothingLeft(t, request.ContainerId)
	h.wantNoFiles(t, request.ContainerId)
}

const withoutNote = "ran\ncat: can't open '/note': No such file or directory\n"

func TestASpareGivesWayToWhateverIsDoneToItsContainer(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	for name, c := range map[string]struct {
		do     func(id string)
		output string
	}{
		"nothing": {func(string) {}, withoutNote},
		"a file is put": {func(id string) {
			if err := h.put(t, id, "/", "note", "of a user\n"); err != nil {
				t.Fatal(err)
			}
			h.wantNothingRuns(t, id)
		}, "ran\nof a user\n"},
		"its files are looked at": {func(id string) {
			if _, err := h.stat(t, id, "/etc"); err != nil {
				t.Fatal(err)
			}
		}, withoutNote},
		"its changes are asked for": {func(id string) {
			if _, err := changesOf(t, h.stored, id); err != nil {
				t.Fatal(err)
			}
			h.wantNothingRuns(t, id)
		}, withoutNote},
		"its log is read": {func(id string) {
			if log := readLog(t, h.stored, id); log != "" {
				t.Error(log)
			}
		}, withoutNote},
		"it is released": {func(id string) {
			h.release(t, id)
			h.wantNothingLeft(t, id)
		}, withoutNote},
		"it is created again": {func(id string) {
			h.mustCreate(t, &hostv1.CreateContainerRequest{ContainerId: id, LayerDiffIds: []string{layer}})
		}, withoutNote},
		"its shim is killed": {func(id string) { h.killShim(t, id) }, withoutNote},
		"its process is killed": {func(id string) {
			process, err := os.FindProcess(int(h.mainOf(t, id)))
			if err != nil {
				t.Fatal(err)
			}
			process.Kill()
			eventually(t, "its end is recorded", func() bool {
				_, err := os.Lstat(filepath.Join(h.stateDir, "containers", id, "exit.json"))
				return err == nil
			})
		}, withoutNote},
		"a host process is killed": {func(id string) {
			h.kill(t)
			h.start(t)
			h.wantNothingLeft(t, id)
		}, withoutNote},
		"a host process leaves": {func(id string) {
			h.stop(t)
			h.wantNothingLeft(t, id)
			h.start(t)
		}, withoutNote},
	} {
		t.Run(name, func(t *testing.T) {
			request := h.created(t, layer)
			c.do(request.ContainerId)
			h.wantItRuns(t, request, c.output)
		})
	}
}

func (h *hostProcess) wantNothingRuns(t testing.TB, id string) {
	t.Helper()
	if found := processesNaming(t, id); len(found) > 0 {
		t.Error(found)
	}
}

func TestASpareGoesWithItsLayer(t *testing.T) {
	h := startHost(t)
	layer, kept := h.unpackImage(t), h.unpackFile(t, "note", "x")
	doomed := h.mustPrepare(t, spareOf(t, layer, noNetwork(), "true"))
	both := spareOf(t, layer, noNetwork(), "true")
	both.LayerDiffIds = append(both.LayerDiffIds, kept)
	other := spareOf(t, kept, noNetwork(), "true")
	other.LayerDiffIds = []string{kept}
	h.mustPrepare(t, both)
	h.mustPrepare(t, other)
	if _, err := h.RemoveLayer(t.Context(), connect.NewRequest(&hostv1.RemoveLayerRequest{DiffId: layer})); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{doomed, both.ContainerId} {
		h.wantNothingLeft(t, id)
		h.wantNoFiles(t, id)
	}
	h.mainOf(t, other.ContainerId)
}

func TestNobodyFindsASpareThatIsNotLaunched(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	early := spareOf(t, layer, noNetwork(), "true")
	h.mustPrepare(t, early)
	if _, err := h.launch(t, early); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("launched without a creation: %v", err)
	}
	if _, err := h.stat(t, early.ContainerId, "/etc"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("its files: %v", err)
	}
	h.wantNoFiles(t, early.ContainerId)
	owner := h.created(t, layer)
	joiner := spareOf(t, layer, &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_ContainerId{ContainerId: owner.ContainerId}}, "true")
	h.mustCreate(t, createOf(joiner))
	if _, err := h.launch(t, joiner); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("its network: %v", err)
	}
	joiner.Network, joiner.PidContainerId = noNetwork(), owner.ContainerId
	if _, err := h.launch(t, joiner); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("its processes: %v", err)
	}
	if _, err := h.ConnectContainer(t.Context(), connect.NewRequest(&hostv1.ConnectContainerRequest{
		ContainerId: owner.ContainerId, Interface: onBridge(testBridge, testAddress(2)+"/24", "").GetBridged().Interfaces[0],
	})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a leg: %v", err)
	}
	h.remove(t, joiner.ContainerId)
	h.wantItRuns(t, owner, withoutNote)
}

// A backend that knows more than it should calls the shim of a spare.
func TestASpareIsNotStartedBeforeItIsLaunched(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	request := h.created(t, layer)
	response, err := h.agentOf(request.ContainerId).Start(t.Context(), connect.NewRequest(&agentv1.StartRequest{Generation: 1}))
	if err != nil || !strings.Contains(response.Msg.GetFailure().GetMessage(), "nobody has asked") {
		t.Error(response, err)
	}
	h.wantItRuns(t, request, withoutNote)
}

func TestASpareThatNobodyLaunchesEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	h := startHost(t)
	layer := h.unpackImage(t)
	alone := h.mustPrepare(t, spareOf(t, layer, noNetwork(), "true"))
	created := h.created(t, layer)
	eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, alone))+len(h.leftovers(t, created.ContainerId)) == 0 })
	eventually(t, "its files are gone", func() bool { // which go last
		_, err := os.Lstat(filepath.Join(h.stateDir, "containers", alone))
		return err != nil
	})
	h.wantNoFiles(t, alone)
	h.wantItRuns(t, created, withoutNote)
}

func TestASpareWhoseHostProcessIsGoneEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	h := startHost(t)
	layer := h.unpackImage(t)
	id := h.mustPrepare(t, spareOf(t, layer, noNetwork(), "true"))
	h.kill(t)
	eventually(t, "no process is left", func() bool { return len(processesNaming(t, id)) == 0 })
	if _, err := os.Lstat(filepath.Join(h.runDir, "runc", id)); err == nil {
		t.Error("the runtime knows of it")
	}
	h.start(t)
	h.wantNothingLeft(t, id)
	h.wantNoFiles(t, id)
}

// agentOf is the shim of a container.
func (h *hostProcess) agentOf(id string) agentv1connect.AgentServiceClient {
	socket := filepath.Join(h.runDir, "c", id[:16], "agent.sock")
	return agentv1connect.NewAgentServiceClient(unixClient(socket), "http://shim", connect.WithGRPC())
}

// unpackFile unpacks a layer of one file.
func (h *hostProcess) unpackFile(t testing.TB, name, content string) (diffID string) {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, content)
	w.Close()
	return h.unpack(t, layer.Bytes())
}
