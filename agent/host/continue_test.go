package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// stepOf is a launch of a step of a build.
func stepOf(t testing.TB, id string, generation uint64, layers []string, script string) *hostv1.LaunchContainerRequest {
	return &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: generation, LayerDiffIds: layers, OciSpec: ociSpec(t, "sh", "-c", script),
		Network: onTestBridge(2), Keep: true, Continues: generation > 1,
		Files: []*hostv1.ManagedFile{{ContainerPath: "/etc/hosts", Content: []byte("names\n"), Mode: 0o644}},
	}
}

func (h *hostProcess) runStep(t testing.TB, request *hostv1.LaunchContainerRequest) (output string) {
	t.Helper()
	c := h.mustLaunch(t, request)
	c.start(t, request.Generation)
	output = c.output(t)
	if code := c.exitCode(t); code != 0 {
		t.Fatalf("step %d: exit code %d", request.Generation, code)
	}
	released, err := h.ReleaseContainer(t.Context(), connect.NewRequest(&hostv1.ReleaseContainerRequest{ContainerId: request.ContainerId, UnlessKept: true}))
	if err != nil || released.Msg.Kept != (request.Keep && len(request.Ports) == 0) {
		t.Fatalf("step %d: released %v: %v", request.Generation, released, err)
	}
	return output
}

func (h *hostProcess) remove(t testing.TB, id string) {
	t.Helper()
	_, err := h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
	assert.NilError(t, err)
}

func TestAStepRunsWhereTheLastOneRanInAFreshRoot(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	above := h.unpackImage(t) // the same one, which stands on itself
	id := h.create(t, layer)
	h.runStep(t, stepOf(t, id, 1, []string{layer}, "echo one; touch /of-1; echo more >>/etc/hosts"))
	if state := h.onDisk(t, id); !state.ShimAlive || state.Generation != 1 || state.GetLastState().GetExit() == nil {
		t.Fatalf("after a release: %v", state)
	}
	for generation := uint64(2); generation < 5; generation++ {
		if generation == 4 { // the shim outlives it
			h.kill(t)
			h.start(t)
		}
		output := h.runStep(t, stepOf(t, id, generation, []string{layer, above}, "ip -4 addr show eth0; cat /etc/hosts; ls /; touch /of-2; echo more >>/etc/hosts"))
		_, last, _ := strings.Cut(output, "eth0")
		if strings.Count(output, testAddress(2)+"/24") != int(generation)-1 || strings.Contains(output, "of-") || strings.Contains(output, "more") ||
			!strings.Contains(last, "names\n") {
			t.Fatalf("step %d: %s", generation, output)
		}
		if state := h.onDisk(t, id); !state.ShimAlive || state.Generation != generation {
			t.Fatalf("step %d: %v", generation, state)
		}
		upper := filepath.Join(h.stateDir, "containers", id, "upper")
		if entries, err := os.ReadDir(upper); err != nil || len(entries) != 1 || entries[0].Name() != "of-2" {
			t.Fatalf("step %d has changed %v: %v", generation, entries, err)
		}
	}
	h.remove(t, id)
	h.wantNothingLeft(t, id)
}

func TestAStepThatRunsIsEndedWithItsContainer(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	for name, before := range map[string]func(id string){
		"alone":            func(string) {},
		"without its shim": func(id string) { h.killShim(t, id) },
	} {
		t.Run(name, func(t *testing.T) {
			id := h.create(t, layer)
			h.runStep(t, stepOf(t, id, 1, []string{layer}, "true"))
			h.mustLaunch(t, stepOf(t, id, 2, []string{layer}, "sleep 1000 & sleep 1000")).start(t, 2)
			before(id)
			wantQuickRelease(t, h, id)
			h.wantNothingLeft(t, id)
			// A launch of its own follows, as after any run.
			next := stepOf(t, id, 3, []string{layer}, "true")
			next.Continues = false
			h.runStep(t, next)
			h.remove(t, id)
			h.wantNothingLeft(t, id)
		})
	}
}

func TestAStepOfItsOwnHasItsImagesFilesAlone(t *testing.T) {
	h := startHostOnBridge(t)
	layer, above := h.unpackImage(t), h.unpackImage(t)
	id := h.create(t, layer)
	h.runStep(t, stepOf(t, id, 1, []string{layer}, "touch /of-1"))
	next := stepOf(t, id, 2, []string{layer, above}, "ls /")
	next.Continues = false
	if output := h.runStep(t, next); strings.Contains(output, "of-1") {
		t.Fatal(output)
	}
}

func TestNothingIsContinuedThatIsNotKept(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	change := func(of func(*hostv1.LaunchContainerRequest)) func(_, next *hostv1.LaunchContainerRequest) {
		return func(_, next *hostv1.LaunchContainerRequest) { of(next) }
	}
	for name, change := range map[string]func(first, next *hostv1.LaunchContainerRequest){
		"not asked for": func(first, _ *hostv1.LaunchContainerRequest) { first.Keep = false },
		"of a container with a port": func(first, _ *hostv1.LaunchContainerRequest) {
			first.Ports = []*hostv1.PublishedPort{{Protocol: "tcp", HostIp: "127.0.0.1", ContainerPort: 80}}
		},
		"with a secret": change(func(next *hostv1.LaunchContainerRequest) { next.SecretEnv = []string{"A=b"} }),
		"on the machine's network": change(func(next *hostv1.LaunchContainerRequest) {
			next.Network = &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_Host{Host: true}}
		}),
		"an earlier generation": change(func(next *hostv1.LaunchContainerRequest) { next.Generation = 1 }),
	} {
		t.Run(name, func(t *testing.T) {
			id := h.create(t, layer)
			first, next := stepOf(t, id, 1, []string{layer}, "true"), stepOf(t, id, 2, []string{layer}, "true")
			change(first, next)
			h.runStep(t, first)
			if next.Generation == 1 {
				h.runStep(t, stepOf(t, id, 2, []string{layer}, "true"))
			}
			if _, err := h.launch(t, next); connect.CodeOf(err) != connect.CodeFailedPrecondition {
				t.Fatal(err)
			}
			h.remove(t, id)
			h.wantNothingLeft(t, id)
		})
	}
}

// TestAStepThatIsCutShortIsReclaimed kills the host process at many moments of a
// step's launch. The step can be launched again, in its place or by itself,
// without remains of the last one.
func TestAStepThatIsCutShortIsReclaimed(t *testing.T) {
	h := startHostOnBridge(t)
	layer, above := h.unpackImage(t), h.unpackImage(t)
	for moment := time.Duration(0); moment < 24*time.Millisecond; moment += 3 * time.Millisecond {
		id := h.create(t, layer)
		h.runStep(t, stepOf(t, id, 1, []string{layer}, "touch /of-1"))
		launched := make(chan struct{})
		next := stepOf(t, id, 2, []string{layer, above}, "ls /; ip -4 addr show eth0")
		go func() {
			defer close(launched)
			h.launch(t, next)
		}()
		time.Sleep(moment) // not a wait for something: the moment is what is tested
		h.kill(t)
		<-launched
		h.start(t)
		c, err := h.launch(t, next)
		if connect.CodeOf(err) == connect.CodeFailedPrecondition {
			next.Continues = false
			c, err = h.launch(t, next)
		}
		assert.NilError(t, err)
		c.start(t, 2)
		if output := c.output(t); strings.Contains(output, "of-1") || !strings.Contains(output, testAddress(2)+"/24") {
			t.Fatalf("after %v: %s", moment, output)
		}
		h.remove(t, id)
		h.wantNothingLeft(t, id)
	}
}
