package host_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/host/v1/hostv1connect"
)

var (
	agentBinary string
	busybox     string
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "skl-host-")
	if err == nil {
		agentBinary = filepath.Join(dir, "sockerless-agent")
		err = buildAgent(agentBinary)
	}
	if err != nil {
		os.RemoveAll(dir)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	busybox, _ = exec.LookPath("busybox")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// buildAgent builds the agent, and the program beside it that enters containers.
func buildAgent(agent string, flags ...string) error {
	enter := filepath.Join(filepath.Dir(agent), "sockerless-enter")
	named := "-ldflags=-X github.com/sockerless/sockerless/agent/shim.enterProgram=" + filepath.Base(enter)
	for _, arguments := range [][]string{{"-o", enter, "../cmd/sockerless-enter"}, append(flags, named, "-o", agent, "../cmd/sockerless-agent")} {
		build := exec.Command("go", append([]string{"build"}, arguments...)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return err
		}
	}
	return nil
}

// hostProcess is a `sockerless-agent host` and its clients.
type hostProcess struct {
	hostv1connect.HostServiceClient
	stored   agentv1connect.AgentServiceClient
	stateDir string
	runDir   string
	agent    string // its binary
	command  *exec.Cmd
	stdin    io.Closer

	connections []*http.Client
}

func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the host process needs root")
	}
}

// startHost starts a host process on its own directories; the test's end stops
// it, and checks for leftovers.
func startHost(t testing.TB) *hostProcess {
	t.Helper()
	requireRoot(t)
	dir, err := os.MkdirTemp("", "skl-")
	assert.NilError(t, err)
	h := &hostProcess{stateDir: filepath.Join(dir, "s"), runDir: filepath.Join(dir, "r"), agent: agentBinary}
	t.Cleanup(func() {
		h.stop(t)
		if mounts := mountsBelow(t, dir); len(mounts) > 0 {
			t.Errorf("still mounted: %v", mounts)
			for _, mount := range mounts {
				unix.Unmount(mount, unix.MNT_DETACH)
			}
		}
		os.RemoveAll(dir)
	})
	h.start(t)
	return h
}

func (h *hostProcess) start(t testing.TB) {
	t.Helper()
	h.record()
	h.command = exec.Command(h.agent, "host", "--state-dir", h.stateDir, "--run-dir", h.runDir)
	h.command.Stderr = os.Stderr
	stdin, err := h.command.StdinPipe()
	assert.NilError(t, err)
	h.stdin = stdin
	assert.NilError(t, h.command.Start())
	h.connections = []*http.Client{unixClient(filepath.Join(h.runDir, "host.sock")), unixClient(filepath.Join(h.runDir, "stored.sock"))}
	h.HostServiceClient = hostv1connect.NewHostServiceClient(h.connections[0], "http://host", connect.WithGRPC())
	h.stored = agentv1connect.NewAgentServiceClient(h.connections[1], "http://host", connect.WithGRPC())
	eventually(t, "the host process answers", func() bool {
		_, err := h.HostServiceClient.Hello(t.Context(), connect.NewRequest(&hostv1.HelloRequest{}))
		return err == nil
	})
}

func (h *hostProcess) stop(t testing.TB) {
	t.Helper()
	if h.command == nil {
		return
	}
	for _, client := range h.connections { // as of a backend that died
		client.CloseIdleConnections()
	}
	h.stdin.Close()
	assert.Check(t, h.command.Wait(), "the host process")
	h.command = nil
}

func (h *hostProcess) kill(t testing.TB) {
	t.Helper()
	h.command.Process.Kill()
	h.command.Wait()
	h.stdin.Close()
	h.command = nil
}

func (h *hostProcess) tag() string { return h.layout().Tag() }

func (h *hostProcess) layout() shimspec.Layout {
	return shimspec.Layout{StateDir: h.stateDir, RunDir: h.runDir}
}

// record registers an instance with the check for tests' leftovers
// (scripts/leaks.ts), if that runs, before the instance creates anything.
func (h *hostProcess) record() {
	sum := sha256.Sum256([]byte(h.stateDir))
	_ = os.WriteFile(filepath.Join(os.TempDir(), ".made", hex.EncodeToString(sum[:6])), nil, 0o600)
}

func unixClient(socket string) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !condition() {
		assert.Assert(t, !time.Now().After(deadline), "not in two minutes: %s", what)
		time.Sleep(5 * time.Millisecond)
	}
}

func mountsBelow(t testing.TB, dir string) (found []string) {
	t.Helper()
	content, err := os.ReadFile("/proc/self/mountinfo")
	assert.NilError(t, err)
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[4], dir+"/") {
			found = append(found, fields[4])
		}
	}
	return found
}

func randomID() string {
	id := make([]byte, 32)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// unpackImage unpacks a layer with busybox, a passwd file and the given files,
// and returns its diff ID.
func (h *hostProcess) unpackImage(t testing.TB, extra ...tar.Header) string {
	t.Helper()
	if busybox == "" {
		t.Skip("busybox is not installed")
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(header tar.Header, content string) {
		header.Size = int64(len(content))
		if header.Mode == 0 {
			header.Mode = 0o755
		}
		assert.NilError(t, w.WriteHeader(&header))
		io.WriteString(w, content)
	}
	program, err := os.ReadFile(busybox)
	assert.NilError(t, err)
	add(tar.Header{Name: "bin/busybox"}, string(program))
	for _, applet := range []string{"sh", "cat", "echo", "id", "ip", "ping", "sleep", "nc", "wget", "hostname", "true", "touch", "ls", "stat", "grep"} {
		add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
	}
	for _, dir := range []string{"proc/", "sys/", "dev/", "etc/", "tmp/"} {
		add(tar.Header{Name: dir, Typeflag: tar.TypeDir}, "")
	}
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0::/root:/bin/sh\nalice:x:1000:100::/home/alice:/bin/sh\n")
	add(tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\nusers:x:100:\naudio:x:29:alice\n")
	for _, header := range extra {
		content := ""
		if header.Typeflag == 0 {
			content, header.Linkname = header.Linkname, ""
		}
		add(header, content)
	}
	w.Close()
	return h.unpack(t, layer.Bytes())
}

// unpack unpacks a tar as a layer and returns its diff ID.
func (h *hostProcess) unpack(t testing.TB, layer []byte) string {
	t.Helper()
	sum := sha256.Sum256(layer)
	diffID := "sha256:" + hex.EncodeToString(sum[:])
	blob := filepath.Join(t.TempDir(), "layer.tar")
	assert.NilError(t, os.WriteFile(blob, layer, 0o600))
	_, err := h.UnpackLayer(t.Context(), connect.NewRequest(&hostv1.UnpackLayerRequest{DiffId: diffID, BlobPath: blob}))
	assert.NilError(t, err)
	return diffID
}

// ociSpec is a small OCI configuration.
func ociSpec(t testing.TB, args ...string) []byte {
	t.Helper()
	type object = map[string]any
	namespaces := []object{}
	for _, kind := range []string{"pid", "mount", "ipc", "uts", "network"} {
		namespaces = append(namespaces, object{"type": kind})
	}
	capabilities := []string{"CAP_NET_RAW", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	spec, err := json.Marshal(object{
		"ociVersion": "1.0.2",
		"process": object{
			"args": args, "cwd": "/", "env": []string{"PATH=/bin"}, "noNewPrivileges": true,
			"capabilities": object{"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
		},
		"root": object{},
		"mounts": []object{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
			{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"ro"}},
		},
		"linux": object{"namespaces": namespaces},
	})
	assert.NilError(t, err)
	return spec
}

func noNetwork() *hostv1.NetworkNamespace {
	return &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_None{None: true}}
}

// create creates a container of the layer and returns its ID; the test's end
// removes it.
func (h *hostProcess) create(t testing.TB, layer string, seeds ...*hostv1.VolumeSeed) string {
	t.Helper()
	id := randomID()
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
		ContainerId: id, LayerDiffIds: []string{layer}, VolumeSeeds: seeds,
	}))
	assert.NilError(t, err)
	t.Cleanup(func() {
		if h.command != nil {
			h.RemoveContainer(context.Background(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
		}
	})
	return id
}

// createNew creates a container of a new image's layer.
func (h *hostProcess) createNew(t testing.TB) (id, layer string) {
	t.Helper()
	layer = h.unpackImage(t)
	return h.create(t, layer), layer
}

// volume creates a volume and returns its path.
func (h *hostProcess) volume(t testing.TB, name string) string {
	t.Helper()
	volume, err := h.CreateVolume(t.Context(), connect.NewRequest(&hostv1.CreateVolumeRequest{Name: name, Driver: "local"}))
	assert.NilError(t, err)
	return volume.Msg.Path
}

// running is a launched container.
type running struct {
	*hostv1.LaunchContainerResponse
	agentv1connect.AgentServiceClient
}

func (h *hostProcess) launch(t testing.TB, request *hostv1.LaunchContainerRequest) (*running, error) {
	t.Helper()
	response, err := h.LaunchContainer(t.Context(), connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return &running{response.Msg, agentv1connect.NewAgentServiceClient(unixClient(response.Msg.AgentSocket), "http://shim", connect.WithGRPC())}, nil
}

func (h *hostProcess) mustLaunch(t testing.TB, request *hostv1.LaunchContainerRequest) *running {
	t.Helper()
	r, err := h.launch(t, request)
	assert.NilError(t, err)
	return r
}

func (r *running) start(t testing.TB, generation uint64) {
	t.Helper()
	response, err := r.Start(t.Context(), connect.NewRequest(&agentv1.StartRequest{Generation: generation}))
	assert.NilError(t, err)
	if failure := response.Msg.GetFailure(); failure != nil {
		t.Fatalf("exit code %d: %s", failure.ExitCode, failure.Message)
	}
}

// exitCode waits for the end of the process.
func (r *running) exitCode(t testing.TB) int32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stream, err := r.Watch(ctx, connect.NewRequest(&agentv1.WatchRequest{}))
	assert.NilError(t, err)
	defer stream.Close()
	for stream.Receive() {
		for _, exit := range []*agentv1.ExitStatus{stream.Msg().GetState().GetExit(), stream.Msg().GetExited()} {
			if exit != nil {
				return exit.Code
			}
		}
	}
	t.Fatalf("the watch was cut: %v", stream.Err())
	return 0
}

// output follows the log to the end of the process.
func (r *running) output(t testing.TB) string {
	t.Helper()
	return readLog(t, r.AgentServiceClient, "")
}

func readLog(t testing.TB, client agentv1connect.AgentServiceClient, id string) string {
	t.Helper()
	request := connect.NewRequest(&agentv1.LogsRequest{Stdout: true, Stderr: true, Follow: true})
	request.Header().Set("sockerless-container-id", id)
	stream, err := client.Logs(t.Context(), request)
	assert.NilError(t, err)
	defer stream.Close()
	var output strings.Builder
	for stream.Receive() {
		output.Write(stream.Msg().GetChunk().GetData())
		if stream.Msg().GetEnd() != nil {
			return output.String()
		}
	}
	t.Fatalf("the log was cut after %q: %v", output.String(), stream.Err())
	return ""
}

func (h *hostProcess) onDisk(t testing.TB, id string) *hostv1.ContainerOnDisk {
	t.Helper()
	list, err := h.ListContainers(t.Context(), connect.NewRequest(&hostv1.ListContainersRequest{ContainerIds: []string{id}}))
	assert.NilError(t, err)
	if len(list.Msg.Containers) == 0 {
		return nil
	}
	if found := list.Msg.Containers[0]; len(list.Msg.Containers) == 1 && found.ContainerId == id {
		return found
	}
	t.Fatalf("found %v", list.Msg.Containers)
	return nil
}

func (h *hostProcess) release(t testing.TB, id string) {
	t.Helper()
	_, err := h.ReleaseContainer(t.Context(), connect.NewRequest(&hostv1.ReleaseContainerRequest{ContainerId: id}))
	assert.NilError(t, err)
}
