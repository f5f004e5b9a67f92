package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/server/servertest"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

func (h *hostProcess) ensureNetwork(t testing.TB, request *hostv1.EnsureNetworkRequest) {
	t.Helper()
	_, err := h.EnsureNetwork(t.Context(), connect.NewRequest(request))
	assert.NilError(t, err)
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
	h := startHostOnBridge(t)
	id, layer := h.createNew(t)
	c := h.mustLaunch(t, &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: 1, LayerDiffIds: []string{layer}, User: "alice",
		OciSpec: ociSpec(t, "sh", "-c", "id; ip -4 addr show eth0; ip route; cat /etc/hostname"),
		Network: onTestBridge(2),
		Files:   []*hostv1.ManagedFile{{ContainerPath: "/etc/hostname", Content: []byte("the-name\n"), Mode: 0o644}},
	})
	c.start(t, 1)
	output := c.output(t)
	for _, want := range []string{"uid=1000(alice) gid=100(users) groups=29(audio),100(users)", "inet " + testAddress(2) + "/24",
		"default via " + testAddress(1) + " dev eth0", "the-name\n"} {
		if !strings.Contains(output, want) {
			t.Errorf("%q is not in\n%s", want, output)
		}
	}
	h.release(t, id)
	if state := h.onDisk(t, id); state == nil || state.ShimAlive || state.Generation != 1 || state.GetLastState().GetExit() == nil {
		t.Errorf("after release: %v", state)
	}
}

// A container that shares the network, and so has the files mounted, may hold such a
// lease: whoever opens one to write waits for it, for 45 seconds a file.
func TestALeaseOnFilesOfTheLastLaunchDoesNotHoldUpTheNextOne(t *testing.T) {
	signal.Ignore(unix.SIGIO) // for the holder, when somebody else opens the file
	t.Cleanup(func() { signal.Reset(unix.SIGIO) })
	h := startHost(t)
	id, layer := h.createNew(t)
	request := sleeper(t, id, layer, noNetwork())
	request.Files = []*hostv1.ManagedFile{{ContainerPath: "/etc/hosts", Content: []byte("names\n"), Mode: 0o644}}
	h.mustLaunch(t, request)
	file, err := os.Open(filepath.Join(h.stateDir, "containers", id, "files", "hosts"))
	assert.NilError(t, err)
	defer file.Close()
	h.release(t, id)
	_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	assert.NilError(t, err)
	request.Generation = 2
	begun := time.Now()
	h.mustLaunch(t, request)
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it takes %v", took)
	}
}

// leftovers lists what remains of a launch on the machine.
func (h *hostProcess) leftovers(t testing.TB, id string) (found []string) {
	t.Helper()
	for _, path := range []string{
		filepath.Join(h.runDir, "c", id[:16]), filepath.Join(h.runDir, "netns", id[:12]), filepath.Join(h.runDir, "runc", id),
		"/sys/fs/cgroup/pids" + h.layout().Cgroup(id), "/sys/fs/cgroup" + h.layout().Cgroup(id),
	} {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	images, _ := filepath.Glob(filepath.Join(h.runDir, "stored", id[:16]+"*"))
	found = append(found, images...)
	found = append(found, mountsBelow(t, filepath.Join(h.stateDir, "containers", id))...)
	links, err := net.Interfaces()
	assert.NilError(t, err)
	for _, link := range links {
		if strings.HasPrefix(link.Name, "sk"+h.tag()[:4]) {
			found = append(found, link.Name)
		}
	}
	return append(found, processesNaming(t, id)...)
}

func processesNaming(t testing.TB, id string) (found []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	assert.NilError(t, err)
	for _, entry := range entries {
		command, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if strings.Contains(string(command), id) {
			found = append(found, "process "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return found
}

func (h *hostProcess) wantNothingLeft(t testing.TB, id string) {
	t.Helper()
	left := h.leftovers(t, id)
	assert.Check(t, is.Len(left, 0), "left behind")
}

// sleeper is a launch request of a container that sleeps until it is killed.
func sleeper(t testing.TB, id, layer string, network *hostv1.NetworkNamespace) *hostv1.LaunchContainerRequest {
	return &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: 1, LayerDiffIds: []string{layer}, OciSpec: ociSpec(t, "sleep", "1000"), Network: network,
	}
}

func TestReleaseLeavesNothingOfARunningContainer(t *testing.T) {
	h := startHostOnBridge(t)
	id, layer := h.createNew(t)
	for generation := uint64(1); generation <= 3; generation++ {
		request := sleeper(t, id, layer, onTestBridge(2))
		request.Generation = generation
		h.mustLaunch(t, request).start(t, generation)
		h.release(t, id)
		h.release(t, id)
		h.wantNothingLeft(t, id)
		state := h.onDisk(t, id)
		if state.Generation != generation || state.ShimAlive || state.GetLastState().GetExit().GetSignal() != 9 {
			t.Errorf("generation %d: %v", generation, state)
		}
	}
}

func TestReleaseOfAContainerThatWasNeverStarted(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	h.mustLaunch(t, sleeper(t, id, layer, noNetwork()))
	h.release(t, id)
	h.wantNothingLeft(t, id)
}

func TestLaunchMayBeRepeated(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	first := h.mustLaunch(t, sleeper(t, id, layer, noNetwork()))
	first.start(t, 1)
	if again := h.mustLaunch(t, sleeper(t, id, layer, noNetwork())); again.Pid != first.Pid || again.AgentSocket != first.AgentSocket {
		t.Errorf("%v, then %v", first.LaunchContainerResponse, again.LaunchContainerResponse)
	}
	next := sleeper(t, id, layer, noNetwork())
	next.Generation = 2
	if _, err := h.launch(t, next); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("another generation: %v", err)
	}
	h.release(t, id)
	if _, err := h.launch(t, sleeper(t, id, layer, noNetwork())); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a generation that has run: %v", err)
	}
}

func TestTheNextGenerationFollowsAtOnceOnAnExit(t *testing.T) {
	h := startHostOnBridge(t)
	id, layer := h.createNew(t)
	for generation := uint64(1); generation <= 4; generation++ {
		c := h.mustLaunch(t, &hostv1.LaunchContainerRequest{
			ContainerId: id, Generation: generation, LayerDiffIds: []string{layer},
			OciSpec: ociSpec(t, "sh", "-c", "touch /tmp/count; cat /tmp/count; echo -n x >>/tmp/count"),
			Network: onTestBridge(2),
		})
		c.start(t, generation)
		// The log goes on from start to start: "" + "x" + "xx" + …
		want := strings.Repeat("x", int(generation*(generation-1)/2))
		if output := c.output(t); output != want {
			t.Errorf("generation %d: all output is %q, want %q", generation, output, want)
		}
	}
	h.release(t, id)
	h.wantNothingLeft(t, id)
}

func TestALaunchThatFailsLeavesNothing(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	defer taken.Close()
	for name, c := range map[string]struct {
		change  func(*hostv1.LaunchContainerRequest)
		code    connect.Code
		message string
	}{
		"unknown user":   {func(r *hostv1.LaunchContainerRequest) { r.User = "bob" }, connect.CodeInvalidArgument, "unable to find user bob: no matching entries in passwd file"},
		"unknown group":  {func(r *hostv1.LaunchContainerRequest) { r.User = "alice:nope" }, connect.CodeInvalidArgument, "unable to find group nope: no matching entries in group file"},
		"no bind source": {func(r *hostv1.LaunchContainerRequest) { r.BindSources = []*hostv1.BindSource{{Path: "/no/such"}} }, connect.CodeNotFound, "bind source path does not exist: /no/such"},
		"no layer":       {func(r *hostv1.LaunchContainerRequest) { r.LayerDiffIds = []string{"sha256:" + id64("b")} }, connect.CodeNotFound, "is not unpacked"},
		"no bridge":      {func(r *hostv1.LaunchContainerRequest) { r.Network = onBridge("nowhere", testAddress(2)+"/24", "") }, connect.CodeNotFound, "bridge nowhere"},
		"no kind":        {func(r *hostv1.LaunchContainerRequest) { r.Network = nil }, connect.CodeInvalidArgument, "network"},
		"hooks":          {func(r *hostv1.LaunchContainerRequest) { r.OciSpec = []byte(`{"hooks":{"prestart":[]},"process":{}}`) }, connect.CodeInvalidArgument, "hooks"},
		"no JSON":        {func(r *hostv1.LaunchContainerRequest) { r.OciSpec = []byte(`{`) }, connect.CodeInvalidArgument, "OCI configuration"},
		"refused by runc": {func(r *hostv1.LaunchContainerRequest) {
			r.OciSpec = []byte(`{"ociVersion":"1.0.2","process":{"args":["x"],"cwd":"relative"}}`)
		}, connect.CodeInternal, "Cwd"},
		"taken port": {func(r *hostv1.LaunchContainerRequest) {
			r.Ports = []*hostv1.PublishedPort{{Protocol: "tcp", HostIp: "127.0.0.1", HostPort: uint32(taken.Addr().(*net.TCPAddr).Port), ContainerPort: 80}}
		}, connect.CodeResourceExhausted, "port is already allocated"},
		"stopped owner": {func(r *hostv1.LaunchContainerRequest) {
			r.Network = &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_ContainerId{ContainerId: id64("c")}}
		}, connect.CodeFailedPrecondition, "cannot join network namespace of a non running container"},
	} {
		t.Run(name, func(t *testing.T) {
			id := h.create(t, layer)
			request := sleeper(t, id, layer, onTestBridge(2))
			c.change(request)
			_, err := h.launch(t, request)
			if connect.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v, want %v: %s", err, c.code, c.message)
			}
			if strings.Count(err.Error(), c.code.String()) != 1 { // before the message, not in it
				t.Errorf("the message has the code's name in it: %v", err)
			}
			h.wantNothingLeft(t, id)
			if state := h.onDisk(t, id); state.Generation != 0 {
				t.Errorf("on disk: %v", state)
			}
		})
	}
}

func id64(digit string) string { return strings.Repeat(digit, 64) }

func TestSecretsOf16MiBAreShown(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	request := &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: 1, LayerDiffIds: []string{layer}, OciSpec: ociSpec(t, "sh", "-c", "cat /run/secrets/* | wc -c"),
		Network: &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_None{None: true}},
	}
	for n := range 32 {
		request.Secrets = append(request.Secrets, &hostv1.SecretFile{ContainerPath: fmt.Sprintf("/run/secrets/%d", n), Content: make([]byte, 512<<10), Mode: 0o444})
	}
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	if output := c.output(t); strings.TrimSpace(output) != "16777216" {
		t.Error(output)
	}
	h.release(t, id)
}

func TestACommandThatIsMissingIsTheStartsFailure(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	request := sleeper(t, id, layer, noNetwork())
	request.OciSpec = ociSpec(t, "no-such-command")
	c := h.mustLaunch(t, request)
	response, err := c.Start(t.Context(), connect.NewRequest(&agentv1.StartRequest{Generation: 1}))
	if err != nil || response.Msg.GetFailure().GetExitCode() != 127 {
		t.Errorf("%v, %v", response, err)
	}
	h.release(t, id)
	h.wantNothingLeft(t, id)
}

func TestNetworksOfTheMachineAndOfAnotherContainer(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	owner := h.create(t, layer)
	first := h.mustLaunch(t, sleeper(t, owner, layer, noNetwork()))
	first.start(t, 1)
	for name, c := range map[string]struct {
		network   *hostv1.NetworkNamespace
		namespace string
	}{
		"container": {&hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_ContainerId{ContainerId: owner}}, fmt.Sprintf("/proc/%d/ns/net", first.Pid)},
		"host":      {&hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_Host{Host: true}}, "/proc/self/ns/net"},
	} {
		t.Run(name, func(t *testing.T) {
			id := h.create(t, layer)
			c2 := h.mustLaunch(t, sleeper(t, id, layer, c.network))
			want, _ := os.Readlink(c.namespace)
			got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", c2.Pid))
			if err != nil || got != want {
				t.Errorf("namespace %s, want %s (%v)", got, want, err)
			}
		})
	}
}

// sharing is a sleeper with a /dev/shm that others may join.
func sharing(t testing.TB, id, layer string) *hostv1.LaunchContainerRequest {
	t.Helper()
	request := sleeper(t, id, layer, noNetwork())
	var config map[string]any
	assert.NilError(t, json.Unmarshal(request.OciSpec, &config))
	config["mounts"] = append(config["mounts"].([]any),
		map[string]any{"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": []string{"nosuid", "mode=1777", "size=65536"}})
	spec, err := json.Marshal(config)
	assert.NilError(t, err)
	request.OciSpec, request.IpcShareable = spec, true
	return request
}

func TestNamespacesOfAnotherContainerThatRuns(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	donor, joiner := h.create(t, layer), h.create(t, layer)
	request := sharing(t, joiner, layer)
	request.PidContainerId, request.IpcContainerId, request.IpcShareable = donor, donor, false
	if _, err := h.launch(t, request); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("joined a container that does not run: %v", err)
	}
	first := h.mustLaunch(t, sharing(t, donor, layer))
	first.start(t, 1)
	second := h.mustLaunch(t, request)
	for _, kind := range []string{"pid", "ipc"} {
		want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", first.Pid, kind))
		got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", second.Pid, kind))
		if err != nil || got != want {
			t.Errorf("%s namespace %s, want %s (%v)", kind, got, want, err)
		}
	}
	shared, machine := fmt.Sprintf("/proc/%d/root/dev/shm", second.Pid), filepath.Join(h.runDir, "c", donor[:16], "shm")
	assert.NilError(t, os.WriteFile(filepath.Join(shared, "note"), nil, 0o600))
	_, err := os.Stat(filepath.Join(machine, "note"))
	assert.Check(t, err, "the shared memory is not one")
	h.release(t, donor)
	assert.Check(t, is.Len(h.leftovers(t, donor), 0), "left over")
}

func TestAPrivateIPCNamespaceIsNotJoined(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	donor, joiner := h.create(t, layer), h.create(t, layer)
	closed := sharing(t, donor, layer)
	closed.IpcShareable = false
	first := h.mustLaunch(t, closed)
	first.start(t, 1)
	request := sharing(t, joiner, layer)
	request.IpcContainerId = donor
	if _, err := h.launch(t, request); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "non-shareable IPC") {
		t.Errorf("joined a private namespace: %v", err)
	}
}

func TestInitIsTheFirstProcess(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	request := sleeper(t, id, layer, noNetwork())
	request.OciSpec = ociSpec(t, "sh", "-c", "cat /proc/1/cmdline")
	request.Init = true
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	if output := c.output(t); !strings.HasPrefix(output, "/sbin/docker-init\x00--\x00sh\x00") {
		t.Errorf("%q", output)
	}
}

func TestASignalRightAfterTheStartReachesAnInitsCommand(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	for round := range 10 {
		request := sleeper(t, h.create(t, layer), layer, noNetwork())
		request.OciSpec = ociSpec(t, "sleep", "1000")
		request.Init = true
		c := h.mustLaunch(t, request)
		c.start(t, 1)
		_, err := c.Signal(t.Context(), connect.NewRequest(&agentv1.SignalRequest{Signal: int32(unix.SIGTERM)}))
		assert.NilError(t, err)
		if code := c.exitCode(t); code != 128+int32(unix.SIGTERM) {
			t.Fatalf("round %d: exit code %d", round, code)
		}
	}
}

func TestAContainerWithoutLayers(t *testing.T) {
	h := startHost(t)
	id := randomID()
	create := &hostv1.CreateContainerRequest{ContainerId: id}
	for range 2 {
		_, err := h.CreateContainer(t.Context(), connect.NewRequest(create))
		assert.NilError(t, err)
	}
	request := sleeper(t, id, "", noNetwork())
	request.LayerDiffIds = nil
	c := h.mustLaunch(t, request)
	response, err := c.Start(t.Context(), connect.NewRequest(&agentv1.StartRequest{Generation: 1}))
	if err != nil || response.Msg.GetFailure().GetExitCode() != 127 {
		t.Errorf("%v, %v", response, err)
	}
	for range 2 {
		_, err := h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
		assert.NilError(t, err)
	}
	h.wantNothingLeft(t, id)
	assert.Check(t, h.onDisk(t, id) == nil, "its files are left")
}

func TestDamagedRecordsSpoilNothingElse(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	damaged, whole := h.create(t, layer), h.create(t, layer)
	dir := filepath.Join(h.stateDir, "containers", damaged)
	for _, name := range []string{"shim.json", "exit.json"} {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), []byte("\x00\x00"), 0o600))
	}
	if state := h.onDisk(t, damaged); state == nil || state.Generation != 0 {
		t.Errorf("damaged: %v", state)
	}
	assert.Check(t, h.onDisk(t, whole) != nil, "the whole one is not listed")
	os.WriteFile(filepath.Join(dir, "upper", "precious"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "rootfs.json"), nil, 0o600)
	create := &hostv1.CreateContainerRequest{ContainerId: damaged, LayerDiffIds: []string{layer}}
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(create))
	assert.NilError(t, err)
	_, err = os.Stat(filepath.Join(dir, "upper", "precious"))
	assert.Check(t, err, "creating it again")
	h.mustLaunch(t, sleeper(t, damaged, layer, noNetwork())).start(t, 1)
}

func TestReleaseOfAPausedContainer(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	c := h.mustLaunch(t, sleeper(t, id, layer, noNetwork()))
	c.start(t, 1)
	_, err := c.Pause(t.Context(), connect.NewRequest(&agentv1.PauseRequest{}))
	assert.NilError(t, err)
	wantQuickRelease(t, h, id)
}

// Without a PID namespace of its own the kernel does not kill a container's
// other processes with its first one.
func TestReleaseKillsEveryProcess(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	request := sleeper(t, id, layer, noNetwork())
	mark := fmt.Sprint(100_000_000 + time.Now().UnixNano()%100_000_000) // seconds, as no other process sleeps
	script := "for i in 1 2 3; do sleep " + mark + " & done; wait"
	spec := strings.Replace(string(ociSpec(t, "sh", "-c", script)), `{"type":"pid"},`, "", 1)
	assert.Assert(t, !strings.Contains(spec, `"type":"pid"`), "the specification still has a PID namespace")
	request.OciSpec = []byte(spec)
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	eventually(t, "all processes run", func() bool { return len(processesNaming(t, mark)) >= 3 })
	wantQuickRelease(t, h, id)
	assert.Check(t, is.Len(processesNaming(t, mark), 0), "still running")
}

// wantQuickRelease checks that no step ran into its time limit.
func wantQuickRelease(t *testing.T, h *hostProcess, id string) {
	t.Helper()
	begin := time.Now()
	h.release(t, id)
	if took := time.Since(begin); took > 9*time.Second {
		t.Errorf("the release took %v", took)
	}
	h.wantNothingLeft(t, id)
}

func TestAnArchivesBytesThatNobodyReadsTakeLittle(t *testing.T) {
	h := startHost(t)
	window := servertest.StreamWindow(t, h.layout().StoredSocket())
	assert.Check(t, window <= 256<<10, "the host process holds %d bytes", window)
}
