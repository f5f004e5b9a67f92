package host_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

func createOf(request *hostv1.LaunchContainerRequest) *hostv1.CreateContainerRequest {
	return &hostv1.CreateContainerRequest{ContainerId: request.ContainerId, LayerDiffIds: request.LayerDiffIds}
}

// prepareSpare prepares a container like the one that a request launches.
func (h *hostProcess) prepareSpare(t testing.TB, request *hostv1.LaunchContainerRequest) error {
	t.Helper()
	_, err := h.PrepareSpare(t.Context(), connect.NewRequest(&hostv1.PrepareSpareRequest{Create: createOf(request), Launch: request}))
	return err
}

func (h *hostProcess) mustPrepare(t testing.TB, request *hostv1.LaunchContainerRequest) (id string) {
	t.Helper()
	if err := h.prepareSpare(t, request); err != nil {
		t.Fatal(err)
	}
	return request.ContainerId
}

func (h *hostProcess) mustCreate(t testing.TB, request *hostv1.CreateContainerRequest) {
	t.Helper()
	if _, err := h.CreateContainer(t.Context(), connect.NewRequest(request)); err != nil {
		t.Fatal(err)
	}
}

// spareOf is a launch request of a container that is like others of a command.
func spareOf(t testing.TB, layer string, network *hostv1.NetworkNamespace, script string) *hostv1.LaunchContainerRequest {
	t.Helper()
	return &hostv1.LaunchContainerRequest{
		ContainerId: randomID(), Generation: 1, LayerDiffIds: []string{layer}, OciSpec: ociSpec(t, "sh", "-c", script), Network: network,
		Files: []*hostv1.ManagedFile{
			{ContainerPath: "/etc/hostname", Content: []byte("name\n"), Mode: 0o644}, {ContainerPath: "/etc/hosts", Content: []byte("hosts\n"), Mode: 0o644},
		},
	}
}

// mainOf is the process that a spare has.
func (h *hostProcess) mainOf(t testing.TB, id string) int64 {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(h.runDir, "c", id[:16], "ready.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ready struct {
		PID int64 `json:"pid"`
	}
	if err := json.Unmarshal(content, &ready); err != nil || ready.PID == 0 {
		t.Fatal(string(content), err)
	}
	return ready.PID
}

// look shows what a container has of the host process.
const look = `ip addr; ip route; cat /proc/net/route /etc/hosts /etc/hostname; ls -ln /etc/hosts /etc/hostname | grep -o '^.* 0  *0  *[0-9]*'
cat /proc/sys/net/ipv4/conf/*/log_martians /proc/sys/net/ipv4/conf/*/arp_notify /proc/sys/net/ipv6/conf/*/disable_ipv6; stat -c '%n %u %g %a' / /etc /dev; ls -a / /etc /dev; hostname; id`

var changing = regexp.MustCompile(`\d+: eth0@if\d+`)

func TestASpareIsWhatItIsLaunchedAs(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	bridged := onBridge("skltest0", "10.213.1.2/24", "10.213.1.1")
	bridged.GetBridged().Interfaces[0].Sysctls = []*hostv1.InterfaceSysctl{{Family: "ipv4", Table: "conf", Name: "log_martians", Value: "1"}}
	for name, network := range map[string]*hostv1.NetworkNamespace{"alone": noNetwork(), "on a bridge": bridged} {
		t.Run(name, func(t *testing.T) {
			seen := map[bool]string{}
			for _, isSpare := range []bool{false, true} {
				request := spareOf(t, layer, network, look+"; exit 7")
				request.User = "alice"
				prepared := proto.CloneOf(request)
				prepared.OciSpec = ociSpec(t, "nothing")
				for _, file := range prepared.Files {
					file.Content = []byte("of the one that was prepared\n")
				}
				var waiting int64
				if isSpare {
					waiting = h.mainOf(t, h.mustPrepare(t, prepared))
					if h.onDisk(t, request.ContainerId) != nil {
						t.Error("it is listed before somebody has created it")
					}
				}
				h.mustCreate(t, createOf(request))
				if disk := h.onDisk(t, request.ContainerId); disk == nil || disk.Generation != 0 || disk.ShimAlive {
					t.Errorf("created: %v", disk)
				}
				c := h.mustLaunch(t, request)
				if isSpare != (c.Pid == waiting) {
					t.Errorf("process %d waits, %d is launched", waiting, c.Pid)
				}
				if again := h.mustLaunch(t, request); again.Pid != c.Pid {
					t.Errorf("launched again: process %d, not %d", again.Pid, c.Pid)
				}
				c.start(t, 1)
				seen[isSpare] = changing.ReplaceAllString(c.output(t), "N")
				if code := c.exitCode(t); code != 7 {
					t.Errorf("exit code %d", code)
				}
				h.release(t, request.ContainerId)
				if disk := h.onDisk(t, request.ContainerId); disk.Generation != 1 || disk.GetLastState().GetExit().GetCode() != 7 {
					t.Errorf("released: %v", disk)
				}
				request.Generation = 2
				next := h.mustLaunch(t, request)
				next.start(t, 2)
				next.exitCode(t)
				h.remove(t, request.ContainerId)
				h.wantNothingLeft(t, request.ContainerId)
			}
			if seen[true] != seen[false] || !strings.Contains(seen[true], "uid=1000(alice)") {
				t.Errorf("by itself\n%s\nas a spare\n%s", seen[false], seen[true])
			}
		})
	}
}

// withConfig changes an OCI configuration.
func withConfig(t testing.TB, request *hostv1.LaunchContainerRequest, change func(config map[string]any)) {
	t.Helper()
	var config map[string]any
	if err := json.Unmarshal(request.OciSpec, &config); err != nil {
		t.Fatal(err)
	}
	change(config)
	content, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	request.OciSpec = content
}

func processOf(config map[string]any) map[string]any { return config["process"].(map[string]any) }

func withMount(mount map[string]any) func(map[string]any) {
	return func(config map[string]any) { config["mounts"] = append(config["mounts"].([]any), mount) }
}

func withSysctl(name string) func(map[string]any) {
	return func(config map[string]any) {
		config["linux"].(map[string]any)["sysctl"] = map[string]string{name: "0"}
	}
}

func TestALaunchThatDiffersFromTheSpareIsOfItsOwn(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	config := func(change func(map[string]any)) func(*hostv1.LaunchContainerRequest) {
		return func(r *hostv1.LaunchContainerRequest) { withConfig(t, r, change) }
	}
	for name, change := range map[string]func(*hostv1.LaunchContainerRequest){
		"another user":  func(r *hostv1.LaunchContainerRequest) { r.User = "alice" },
		"another group": func(r *hostv1.LaunchContainerRequest) { r.AdditionalGroups = []string{"audio"} },
		"another file":  func(r *hostv1.LaunchContainerRequest) { r.Files = r.Files[:1] },
		"its own input": func(r *hostv1.LaunchContainerRequest) { r.OpenStdin = true },
		"another log":   func(r *hostv1.LaunchContainerRequest) { r.Log = &hostv1.LogSettings{MaxSize: 1 << 20} },
		"an init":       func(r *hostv1.LaunchContainerRequest) { r.Init = true },
		"a secret":      func(r *hostv1.LaunchContainerRequest) { r.SecretEnv = []string{"A=b"} },
		"a step":        func(r *hostv1.LaunchContainerRequest) { r.Keep = true },
		"another kind": func(r *hostv1.LaunchContainerRequest) {
			r.Network = &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_Host{Host: true}}
		},
		"no new privileges":  config(func(c map[string]any) { processOf(c)["noNewPrivileges"] = false }),
		"another directory":  config(func(c map[string]any) { processOf(c)["cwd"] = "/tmp" }),
		"other capabilities": config(func(c map[string]any) { processOf(c)["capabilities"] = map[string]any{} }),
		"a limit": config(func(c map[string]any) {
			processOf(c)["rlimits"] = []any{map[string]any{"type": "RLIMIT_NOFILE", "soft": 44, "hard": 44}}
		}),
		"another mount": config(withMount(map[string]any{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})),
		"a filter": config(func(c map[string]any) {
			c["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW"}
		}),
		"a parameter": config(withSysctl("net.ipv4.ip_unprivileged_port_start")),
		"a port": func(r *hostv1.LaunchContainerRequest) {
			r.Ports = []*hostv1.PublishedPort{{Protocol: "tcp", HostIp: "127.0.0.1", ContainerPort: 80}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			request := spareOf(t, layer, onBridge("skltest0", "10.213.1.2/24", "10.213.1.1"), "echo ran; cat /etc/hostname")
			waiting := h.mainOf(t, h.mustPrepare(t, request))
			h.mustCreate(t, createOf(request))
			change(request)
			c := h.mustLaunch(t, request)
			if c.Pid == waiting {
				t.Error("the spare is launched")
			}
			c.start(t, 1)
			if output := c.output(t); !strings.Contains(output, "ran") || !strings.Contains(output, "name") {
				t.Errorf("output %q", output)
			}
			h.remove(t, request.ContainerId)
			h.wantNothingLeft(t, request.ContainerId)
		})
	}
}

func TestWhatCannotBePreparedIsRefused(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	config := func(change func(map[string]any)) func(*hostv1.PrepareSpareRequest) {
		return func(r *hostv1.PrepareSpareRequest) { withConfig(t, r.Launch, change) }
	}
	refused := connect.CodeFailedPrecondition
	for name, c := range map[string]struct {
		change func(*hostv1.PrepareSpareRequest)
		code   connect.Code
	}{
		"a step":       {func(r *hostv1.PrepareSpareRequest) { r.Launch.Keep = true }, refused},
		"a terminal":   {func(r *hostv1.PrepareSpareRequest) { r.Launch.Tty = true }, refused},
		"an init":      {func(r *hostv1.PrepareSpareRequest) { r.Launch.Init = true }, refused},
		"a generation": {func(r *hostv1.PrepareSpareRequest) { r.Launch.Generation = 2 }, refused},
		"another's network": {func(r *hostv1.PrepareSpareRequest) {
			r.Launch.Network = &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_ContainerId{ContainerId: id64("a")}}
		}, refused},
		"a seed": {func(r *hostv1.PrepareSpareRequest) {
			r.Create.VolumeSeeds = []*hostv1.VolumeSeed{{Path: "/etc", VolumePath: filepath.Join(h.stateDir, "volumes", "v")}}
		}, refused},
		"a bind":        {config(withMount(map[string]any{"destination": "/tmp", "type": "bind", "source": "/tmp", "options": []string{"rbind"}})), refused},
		"a hidden bind": {config(withMount(map[string]any{"destination": "/tmp", "type": "tmpfs", "source": "/tmp", "options": []string{"bind"}})), refused},
		"a parameter":   {config(withSysctl("net.ipv4.conf.eth0.log_martians")), refused},
		"a label":       {config(func(c map[string]any) { processOf(c)["apparmorProfile"] = "unconfined" }), refused},
		"user's processes": {config(func(c map[string]any) {
			processOf(c)["rlimits"] = []any{map[string]any{"type": "RLIMIT_NPROC", "soft": 44, "hard": 44}}
		}), refused},
		"a filter that ends threads": {config(func(c map[string]any) {
			c["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
				map[string]any{"names": []string{"getcpu"}, "action": "SCMP_ACT_KILL_THREAD"}}}
		}), refused},
		"a filter that forbids to wait": {config(func(c map[string]any) {
			c["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
				map[string]any{"names": []string{"fcntl"}, "action": "SCMP_ACT_ERRNO"}}}
		}), refused},
		"too little memory": {config(func(c map[string]any) {
			c["linux"].(map[string]any)["resources"] = map[string]any{"pids": map[string]any{"limit": 1}}
		}), refused},
		"hooks":      {config(func(c map[string]any) { c["hooks"] = map[string]any{"prestart": []any{}} }), connect.CodeInvalidArgument},
		"another ID": {func(r *hostv1.PrepareSpareRequest) { r.Launch.ContainerId = randomID() }, connect.CodeInvalidArgument},
		"no layer": {func(r *hostv1.PrepareSpareRequest) {
			r.Create.LayerDiffIds, r.Launch.LayerDiffIds = []string{"sha256:" + id64("b")}, []string{"sha256:" + id64("b")}
		}, connect.CodeNotFound},
		"an unknown user": {func(r *hostv1.PrepareSpareRequest) { r.Launch.User = "bob" }, connect.CodeInvalidArgument},
		"no JSON":         {func(r *hostv1.PrepareSpareRequest) { r.Launch.OciSpec = []byte("{") }, connect.CodeInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			launched := spareOf(t, layer, onBridge("skltest0", "10.213.1.2/24", "10.213.1.1"), "true")
			request := &hostv1.PrepareSpareRequest{Create: createOf(launched), Launch: launched}
			c.change(request)
			if _, err := h.PrepareSpare(t.Context(), connect.NewRequest(request)); connect.CodeOf(err) != c.code {
				t.Errorf("got %v, want %v", err, c.code)
			}
			h.wantNothingLeft(t, request.Create.ContainerId)
			h.wantNoFiles(t, request.Create.ContainerId)
		})
	}
}

func (h *hostProcess) wantNoFiles(t testing.TB, id string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(h.stateDir, "containers", id)); err == nil {
		t.Error("its files are left")
	}
	if h.onDisk(t, id) != nil {
		t.Error("it is listed")
	}
}

func TestSparesAreBounded(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	var ids []string
	for range 8 {
		ids = append(ids, h.mustPrepare(t, spareOf(t, layer, noNetwork(), "true")))
	}
	one := spareOf(t, layer, noNetwork(), "true")
	if err := h.prepareSpare(t, one); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Error(err)
	}
	h.wantNoFiles(t, one.ContainerId)
	h.remove(t, ids[0])
	h.wantNothingLeft(t, ids[0])
	h.wantNoFiles(t, ids[0])
	h.mustPrepare(t, one)
	h.stop(t)
	for _, id := range append(ids, one.ContainerId) {
		h.wantNothingLeft(t, id)
	}
	if left, err := os.ReadDir(filepath.Join(h.stateDir, "containers")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

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

func TestACreationThatDiffersFromTheSpareIsOfItsOwn(t *testing.T) {
	h := startHost(t)
	layer, other := h.unpackImage(t), h.unpackFile(t, "note", "of the other layer\n")
	for name, change := range map[string]func(*hostv1.CreateContainerRequest, *hostv1.LaunchContainerRequest){
		"layers": func(c *hostv1.CreateContainerRequest, l *hostv1.LaunchContainerRequest) {
			c.LayerDiffIds = append(c.LayerDiffIds, other)
			l.LayerDiffIds = c.LayerDiffIds
		},
		"a directory": func(c *hostv1.CreateContainerRequest, _ *hostv1.LaunchContainerRequest) {
			c.WorkingDirectory = "/tmp/new"
		},
		"read-only": func(c *hostv1.CreateContainerRequest, _ *hostv1.LaunchContainerRequest) { c.ReadOnlyRoot = true },
	} {
		t.Run(name, func(t *testing.T) {
			request := spareOf(t, layer, noNetwork(), "echo ran; cat /note 2>&1; ls /tmp")
			id := h.mustPrepare(t, request)
			create := createOf(request)
			change(create, request)
			h.mustCreate(t, create)
			h.wantNothingLeft(t, id)
			c := h.mustLaunch(t, request)
			c.start(t, 1)
			output := c.output(t)
			if !strings.Contains(output, "ran\n") || strings.Contains(output, "of the other layer") != (name == "layers") || strings.Contains(output, "new\n") != (name == "a directory") {
				t.Error(output)
			}
			h.remove(t, id)
			h.wantNothingLeft(t, id)
		})
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
		ContainerId: owner.ContainerId, Interface: onBridge("skltest0", "10.213.1.2/24", "").GetBridged().Interfaces[0],
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

func TestAPreparationWhoseCallerLeavesIsUndone(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	for moment := 2 * time.Millisecond; moment < 70*time.Millisecond; moment += 6 * time.Millisecond {
		request := spareOf(t, layer, noNetwork(), "true")
		ctx, cancel := context.WithTimeout(t.Context(), moment)
		_, err := h.PrepareSpare(ctx, connect.NewRequest(&hostv1.PrepareSpareRequest{Create: createOf(request), Launch: request}))
		cancel()
		if err == nil {
			h.mustCreate(t, createOf(request))
			h.wantItRuns(t, request, "")
			continue
		}
		// It may have come to its end nonetheless.
		h.remove(t, request.ContainerId)
		h.wantNothingLeft(t, request.ContainerId)
		h.wantNoFiles(t, request.ContainerId)
	}
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
