package host_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
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
	return int64(h.readinessOf(t, id).PID)
}

func (h *hostProcess) readinessOf(t testing.TB, id string) (ready shimspec.Readiness) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(h.runDir, "c", id[:16], "ready.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &ready); err != nil || ready.PID == 0 {
		t.Fatal(string(content), err)
	}
	return ready
}

// look shows what a container has of the host process.
const look = `ip addr; ip route; cat /proc/net/route /etc/hosts /etc/hostname; ls -ln /etc/hosts /etc/hostname | grep -o '^.* 0  *0  *[0-9]*'
cat /proc/sys/net/ipv4/conf/*/log_martians /proc/sys/net/ipv4/conf/*/arp_notify /proc/sys/net/ipv6/conf/*/disable_ipv6; stat -c '%n %u %g %a' / /etc /dev; ls -a / /etc /dev; hostname; id`

var changing = regexp.MustCompile(`\d+: eth0@if\d+`)

func TestASpareIsWhatItIsLaunchedAs(t *testing.T) {
	h := startHostOnBridge(t)
	layer := h.unpackImage(t)
	bridged := onTestBridge(2)
	bridged.GetBridged().Interfaces[0].Sysctls = []*hostv1.InterfaceSysctl{{Family: "ipv4", Table: "conf", Name: "log_martians", Value: "1"}}
	for name, network := range map[string]*hostv1.NetworkNamespace{"alone": noNetwork(), "on a bridge": bridged} {
		t.Run(name, func(t *testing.T) {
			seen := map[bool]string{}
			for _, isSpare := range []bool{false, true} {
				request := spareOf(t, layer, network, look+"; exit 7")
				request.User = "alice"
				withConfig(t, request, withoutCapabilities)
				prepared := proto.CloneOf(request)
				prepared.OciSpec = ociSpec(t, "nothing")
				withConfig(t, prepared, withoutCapabilities)
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
				if isSpare != (c.Pid == waiting) || isSpare != c.Claimed {
					t.Errorf("process %d waits, %d is launched", waiting, c.Pid)
				}
				h.kill(t)
				h.start(t)
				if again := h.mustLaunch(t, request); again.Pid != c.Pid || again.Claimed != isSpare {
					t.Errorf("launched again: process %d, not %d, claimed %t", again.Pid, c.Pid, again.Claimed)
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
				if next.Claimed {
					t.Error("the next generation is the first one's")
				}
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

func withoutCapabilities(config map[string]any) {
	processOf(config)["capabilities"] = map[string]any{}
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
			request := spareOf(t, layer, onTestBridge(2), "echo ran; cat /etc/hostname")
			waiting := h.mainOf(t, h.mustPrepare(t, request))
			h.mustCreate(t, createOf(request))
			change(request)
			c := h.mustLaunch(t, request)
			if c.Pid == waiting || c.Claimed {
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
