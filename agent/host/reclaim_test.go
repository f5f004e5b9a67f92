package host_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

func TestContainersOutliveTheHostProcess(t *testing.T) {
	h := startHostOnBridge(t)
	id, layer := h.createNew(t)
	before := h.mustLaunch(t, sleeper(t, id, layer, onTestBridge(2)))
	before.start(t, 1)
	h.kill(t)
	h.start(t)
	if state := h.onDisk(t, id); !state.ShimAlive || state.Generation != 1 || state.AgentSocket != before.AgentSocket {
		t.Errorf("on disk: %v", state)
	}
	after := h.mustLaunch(t, sleeper(t, id, layer, nil))
	if after.Pid != before.Pid {
		t.Errorf("process %d became %d", before.Pid, after.Pid)
	}
	assert.Check(t, len(h.leftovers(t, id)) >= 5, "something of a running container was reclaimed")
	h.stop(t) // the well-behaved end leaves them, too
	h.start(t)
	if state := h.onDisk(t, id); !state.ShimAlive {
		t.Errorf("on disk: %v", state)
	}
	h.release(t, id)
	h.wantNothingLeft(t, id)
}

func TestWhatAKilledShimLeavesIsReclaimed(t *testing.T) {
	h := startHostOnBridge(t)
	id, layer := h.createNew(t)
	h.mustLaunch(t, sleeper(t, id, layer, onTestBridge(2))).start(t, 1)
	h.kill(t)
	h.killShim(t, id)
	h.start(t)
	h.wantNothingLeft(t, id)
	if state := h.onDisk(t, id); state.ShimAlive || state.Generation != 1 || state.LastState != nil {
		t.Errorf("on disk: %v", state)
	}
	next := sleeper(t, id, layer, onTestBridge(2))
	next.Generation = 2
	h.mustLaunch(t, next).start(t, 2)
}

func TestAContainerWhoseRunDirectoryWasLostEndsBeforeItRunsAgain(t *testing.T) {
	h := startHostOnBridge(t)
	id, layer := h.createNew(t)
	before := h.mustLaunch(t, sleeper(t, id, layer, onTestBridge(2)))
	before.start(t, 1)
	h.stop(t)
	bound, err := filepath.Glob(filepath.Join(h.runDir, "netns", "*"))
	assert.NilError(t, err)
	for _, path := range bound {
		assert.NilError(t, unix.Unmount(path, unix.MNT_DETACH))
	}
	assert.NilError(t, os.RemoveAll(h.runDir))
	h.start(t)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", before.Pid)); err == nil {
		t.Error("its process runs on, where nothing reaches it")
	}
	eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, id)) == 0 })
	next := sleeper(t, id, layer, onTestBridge(2))
	next.Generation = 2
	h.mustLaunch(t, next).start(t, 2)
}

// A container that runs is not taken for an ended one by a host process with another
// run directory, or with the moved state directory, which would run it twice.
func TestAContainerThatRunsElsewhereKeepsHostProcessesOut(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	h.mustLaunch(t, sleeper(t, id, layer, noNetwork())).start(t, 1)
	h.stop(t)
	refused := func(what, stateDir, runDir string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		other := exec.CommandContext(ctx, h.agent, "host", "--state-dir", stateDir, "--run-dir", runDir)
		stdin, err := other.StdinPipe() // it serves for as long as this is open
		assert.NilError(t, err)
		defer stdin.Close()
		output, err := other.CombinedOutput()
		if err == nil || ctx.Err() != nil || !strings.Contains(string(output), "runs with the state directory "+h.stateDir+" and the run directory "+h.runDir) {
			t.Errorf("%s: %v: %s", what, err, output)
		}
	}
	refused("another run directory", h.stateDir, h.runDir+"2")
	moved := h.stateDir + "-moved"
	assert.NilError(t, os.Rename(h.stateDir, moved))
	refused("a state directory that was moved", moved, h.runDir+"2")
	assert.NilError(t, os.Symlink(moved, h.stateDir))
	refused("one with a link in its place", h.stateDir, h.runDir)
	assert.NilError(t, os.Remove(h.stateDir))
	assert.NilError(t, os.Rename(moved, h.stateDir))
	h.start(t)
	if state := h.onDisk(t, id); !state.ShimAlive {
		t.Errorf("on disk: %v", state)
	}
	h.release(t, id)
	h.wantNothingLeft(t, id)
}

// A container with a damaged shim.json runs on, and ends in order; joining it is
// an error that names the file.
func TestADamagedRecordOfALaunchEndsNothing(t *testing.T) {
	h := startHostOnBridge(t)
	id, layer := h.createNew(t)
	h.mustLaunch(t, sleeper(t, id, layer, onTestBridge(2))).start(t, 1)
	before := h.onDisk(t, id)
	record := filepath.Join(h.stateDir, "containers", id, "shim.json")
	whole, err := os.ReadFile(record)
	assert.NilError(t, err)
	for _, content := range [][]byte{whole[:len(whole)/2], {}, []byte("\x00\x00\x00")} {
		os.WriteFile(record, content, 0o600)
		h.kill(t)
		h.start(t)
		if state := h.onDisk(t, id); !proto.Equal(state, before) {
			t.Errorf("%q: got %v, not %v", content, state, before)
		}
	}
	assert.NilError(t, os.WriteFile(record, whole, 0o600))
	ready := filepath.Join(h.runDir, "c", id[:16], "ready.json")
	readiness, err := os.ReadFile(ready)
	assert.NilError(t, err)
	for _, content := range [][]byte{{}, readiness[:len(readiness)/2]} {
		os.WriteFile(ready, content, 0o600)
		h.kill(t)
		h.start(t)
		if state := h.onDisk(t, id); !proto.Equal(state, before) {
			t.Errorf("readiness %q: got %v, not %v", content, state, before)
		}
	}
	os.WriteFile(ready, readiness, 0o600)
	os.WriteFile(record, nil, 0o600)
	other := h.create(t, layer)
	_, err = h.launch(t, sleeper(t, other, layer, &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_ContainerId{ContainerId: id}}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), record) {
		t.Errorf("who joins it: %v", err)
	}
	h.release(t, id)
	h.wantNothingLeft(t, id)
	if state := h.onDisk(t, id); state.ShimAlive || state.Generation != 1 || state.GetLastState().GetExit() == nil {
		t.Errorf("after its end: %v", state)
	}
	next := sleeper(t, id, layer, onTestBridge(2))
	next.Generation = 2
	h.mustLaunch(t, next).start(t, 2)
}

func TestAShimThatWasKilledIsReleasedByCall(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	h.mustLaunch(t, sleeper(t, id, layer, noNetwork())).start(t, 1)
	h.killShim(t, id)
	eventually(t, "the host process notices", func() bool { return !h.onDisk(t, id).ShimAlive })
	h.release(t, id)
	h.wantNothingLeft(t, id)
}

func (h *hostProcess) killShim(t *testing.T, id string) {
	t.Helper()
	output, err := exec.Command("pgrep", "-f", "shim --spec .*"+id).Output()
	pids := strings.Fields(string(output))
	if err != nil || len(pids) != 1 {
		t.Fatalf("pgrep: %v: %q", err, output)
	}
	assert.NilError(t, exec.Command("kill", "-KILL", pids[0]).Run())
	eventually(t, "the shim is dead", func() bool {
		conn, err := net.Dial("unix", filepath.Join(h.runDir, "c", id[:16], "agent.sock"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// TestALaunchThatIsCutShortIsReclaimed kills the host process at many moments of
// a launch. Either the shim has taken over, or nothing is left.
func TestALaunchThatIsCutShortIsReclaimed(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	for moment := time.Duration(0); moment < 60*time.Millisecond; moment += 4 * time.Millisecond {
		id := h.create(t, layer)
		launched := make(chan struct{})
		go func() {
			defer close(launched)
			h.launch(t, sleeper(t, id, layer, onTestBridge(2)))
		}()
		time.Sleep(moment) // not a wait for something: the moment is what is tested
		h.kill(t)
		<-launched
		h.start(t)
		state := h.onDisk(t, id)
		if !state.ShimAlive {
			// A shim that got no further than its own start ends by itself.
			eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, id)) == 0 })
			continue
		}
		h.mustLaunch(t, sleeper(t, id, layer, onTestBridge(2))).start(t, 1)
		h.release(t, id)
		h.wantNothingLeft(t, id)
	}
}

func TestOneHostProcessAtATime(t *testing.T) {
	t.Parallel() // the second waits for the first for a while
	h := startHost(t)
	second := exec.Command(agentBinary, "host", "--state-dir", h.stateDir, "--run-dir", h.runDir)
	stdin, err := second.StdinPipe()
	assert.NilError(t, err)
	defer stdin.Close()
	var output strings.Builder
	second.Stderr = &output
	if err := second.Run(); err == nil || !strings.Contains(output.String(), "another host process works on") {
		t.Errorf("%v: %s", err, output.String())
	}
	_, err = h.HostServiceClient.Hello(t.Context(), connect.NewRequest(&hostv1.HelloRequest{}))
	assert.Check(t, err, "the first is disturbed")
}

func TestSocketsArePrivate(t *testing.T) {
	h := startHost(t)
	for _, socket := range []string{"host.sock", "stored.sock"} {
		info, err := os.Stat(filepath.Join(h.runDir, socket))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", socket, info.Mode(), err)
		}
	}
}

func TestHelloAndInspectMachine(t *testing.T) {
	h := startHost(t)
	hello, err := h.HostServiceClient.Hello(t.Context(), connect.NewRequest(&hostv1.HelloRequest{}))
	assert.NilError(t, err)
	m := hello.Msg
	if m.RuntimeVersion == "" || !filepath.IsAbs(m.RuntimePath) || (m.CgroupVersion != "1" && m.CgroupVersion != "2") ||
		len(m.CgroupControllers) == 0 || m.StoredSocket != filepath.Join(h.runDir, "stored.sock") {
		t.Errorf("hello: %v", m)
	}
	stored, err := h.stored.Hello(t.Context(), connect.NewRequest(&agentv1.HelloRequest{}))
	if err != nil || stored.Msg.Mode != agentv1.Mode_MODE_HOST {
		t.Errorf("stored: %v, %v", stored, err)
	}
	machine, err := h.InspectMachine(t.Context(), connect.NewRequest(&hostv1.InspectMachineRequest{}))
	if err != nil || machine.Msg.Now == nil {
		t.Errorf("machine: %v, %v", machine, err)
	}
	if entries, err := os.ReadDir(filepath.Join(h.runDir, "runc")); err != nil || len(entries) != 0 {
		t.Errorf("the probe left %v, %v", entries, err)
	}
}

func TestALaunchWhoseCallerLeavesIsUndone(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	for moment := 2 * time.Millisecond; moment < 60*time.Millisecond; moment += 4 * time.Millisecond {
		id := h.create(t, layer)
		request := sleeper(t, id, layer, onTestBridge(2))
		ctx, cancel := context.WithTimeout(t.Context(), moment)
		_, err := h.LaunchContainer(ctx, connect.NewRequest(request))
		cancel()
		if err != nil {
			eventually(t, "nothing is left, or the shim had taken over", func() bool {
				return h.onDisk(t, id).ShimAlive || len(h.leftovers(t, id)) == 0
			})
		}
		// The next attempt finds its way after any outcome of this one.
		h.mustLaunch(t, request).start(t, 1)
		h.release(t, id)
		h.wantNothingLeft(t, id)
	}
}
