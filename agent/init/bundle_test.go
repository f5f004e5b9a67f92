package containerinit_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/ports"
)

// The platform's texts in the name files.
const (
	platformHosts  = "127.0.0.1 localhost\n10.1.2.3 ip-10-1-2-3.internal"
	platformResolv = "nameserver 127.0.0.53\nsearch platform.internal\n"
)

// dockerCapabilities is a container's default set.
var dockerCapabilities = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID
	CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE`)

// binaries are the agent and the probe, built once.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sockerless-init-test-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	for name, source := range map[string]string{"sockerless-agent": "../cmd/sockerless-agent", "probe": "./testdata/probe"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, output)
		}
	}
	return dir, nil
})

var builtIn string

func TestMain(m *testing.M) {
	code := m.Run()
	if builtIn != "" {
		os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// task is one container as a cloud would run it: a scratch image with the user's
// program, read-only, the agent in a shared volume as its entrypoint, and
// Docker's default capabilities and seccomp filter.
type task struct {
	t       *testing.T
	id      string // Docker's
	name    string // runc's
	runc    string // its --root
	address string
	run     *exec.Cmd
	output  string // file: what the agent says
	ended   chan struct{}
	ca      *authority
	network ports.Dial // into the container's network
}

type taskOptions struct {
	uid       int      // of the agent
	arguments []string // more flags
	env       []string
	noVolume  bool     // the shared volume is read-only
	stdout    *os.File // where the platform collects the output; nil: with what the agent says
	resources map[string]any
	writable  bool // the root file system
	noCgroup  bool // the platform does not show the control group
	network   bool // a network of its own, with files of names as the platform mounts them
	mount     func(root string)
}

var taskCount atomic.Int64

func startTask(t *testing.T, options taskOptions) *task {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("needs runc")
	}
	dir := t.TempDir()
	k := &task{
		t:      t,
		id:     strings.Repeat(fmt.Sprintf("%08x", os.Getpid()), 7) + fmt.Sprintf("%08x", taskCount.Add(1)),
		name:   fmt.Sprintf("skl-init-test-%d-%d", os.Getpid(), taskCount.Load()),
		runc:   filepath.Join(dir, "runc"),
		output: filepath.Join(dir, "output"),
		ended:  make(chan struct{}),
		ca:     newAuthority(t),
	}
	k.network = ports.DialInNamespace("")
	if k.address = freeAddress(t); options.network {
		k.address = "127.0.0.1:9111"
	}
	k.prepare(dir, options)
	if options.mount != nil {
		options.mount(filepath.Join(dir, "rootfs"))
	}
	output, err := os.Create(k.output)
	must(t, err)
	defer output.Close()
	k.run = exec.Command("runc", "--root", k.runc, "run", "--bundle", dir, k.name)
	k.run.Stdout, k.run.Stderr = output, output
	if options.stdout != nil {
		k.run.Stdout = options.stdout
	}
	must(t, k.run.Start())
	go func() {
		k.run.Wait()
		close(k.ended)
	}()
	t.Cleanup(func() {
		exec.Command("runc", "--root", k.runc, "delete", "--force", k.name).Run()
		<-k.ended
		if t.Failed() {
			t.Logf("the agent said:\n%s", k.said())
		}
	})
	k.awaitReady()
	if options.network {
		k.network = ports.DialInNamespace(fmt.Sprintf("/proc/%d/ns/net", k.pid()))
	}
	return k
}

// pid is that of the agent, as this machine counts.
func (k *task) pid() int {
	k.t.Helper()
	output, err := exec.Command("runc", "--root", k.runc, "state", k.name).Output()
	must(k.t, err)
	var state struct{ Pid int }
	must(k.t, json.Unmarshal(output, &state))
	return state.Pid
}

// prepare makes the bundle.
func (k *task) prepare(dir string, options taskOptions) {
	built, err := binaries()
	must(k.t, err)
	root, volume := filepath.Join(dir, "rootfs"), filepath.Join(dir, "volume")
	for _, name := range []string{"proc", "dev", "sys", "data", ".sockerless", "etc"} {
		must(k.t, os.MkdirAll(filepath.Join(root, name), 0o755))
	}
	must(k.t, os.MkdirAll(volume, 0o777))
	must(k.t, os.Chmod(volume, 0o777))
	must(k.t, os.Chmod(filepath.Join(root, "data"), 0o777|os.ModeSticky)) // runc gives it to the tmpfs there
	must(k.t, os.Chmod(dir, 0o755))
	must(k.t, os.Chmod(filepath.Dir(dir), 0o755))
	must(k.t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/\nnobody:x:65534:65534::/nonexistent:/\nalice:x:1000:1000::/home/alice:/\n"), 0o644))
	must(k.t, os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\nnogroup:x:65534:\naudio:x:29:alice\n"), 0o644))
	must(k.t, os.WriteFile(filepath.Join(root, "noexec"), []byte("text"), 0o644))
	must(k.t, os.WriteFile(filepath.Join(root, "garbage"), []byte("text"), 0o755))
	probe, err := os.ReadFile(filepath.Join(built, "probe")) // a link would change with each other test's link
	must(k.t, err)
	must(k.t, os.WriteFile(filepath.Join(root, "probe"), probe, 0o755))
	if busybox, err := os.ReadFile("/bin/busybox"); err == nil {
		must(k.t, os.WriteFile(filepath.Join(root, "busybox"), busybox, 0o755))
	}
	// As the init container does.
	if output, err := exec.Command(filepath.Join(built, "sockerless-agent"), "cp", volume).CombinedOutput(); err != nil {
		k.t.Fatalf("cp: %v\n%s", err, output)
	}
	k.writeConfig(dir, volume, options)
}

func (k *task) writeConfig(dir, volume string, options taskOptions) {
	arguments := append([]string{"/.sockerless/sockerless-agent", "init", "--container-id", k.id, "--listen", k.address,
		"--client-ca-pin", k.ca.pin()}, options.arguments...)
	volumeMode := "rw"
	if options.noVolume {
		volumeMode = "ro"
	}
	capabilities := map[string]any{"bounding": dockerCapabilities}
	if options.uid == 0 {
		capabilities["effective"], capabilities["permitted"] = dockerCapabilities, dockerCapabilities
	}
	config := map[string]any{
		"ociVersion": "1.0.2",
		"root":       map[string]any{"path": "rootfs", "readonly": !options.writable},
		"process": map[string]any{
			"args": arguments, "cwd": "/",
			"env":          append([]string{"PATH=/bin", "SOCKERLESS_SECRET=agent's", "AWS_REGION=eu-west-1", "ECS_AGENT_URI=http://x"}, options.env...),
			"user":         map[string]any{"uid": options.uid, "gid": options.uid},
			"capabilities": capabilities,
			"rlimits":      []map[string]any{{"type": "RLIMIT_NOFILE", "soft": 1234, "hard": 2345}},
		},
		"mounts": []map[string]any{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}},
			{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
			{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
			{"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": []string{"mode=1777"}},
			{"destination": "/.sockerless", "type": "bind", "source": volume, "options": []string{"bind", volumeMode}},
		},
		"linux": map[string]any{
			"namespaces":  []map[string]string{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}},
			"maskedPaths": []string{"/proc/kcore", "/proc/keys"},
			"seccomp":     dockerSeccomp(k.t),
			"resources":   options.resources,
		},
	}
	if options.network {
		linux := config["linux"].(map[string]any)
		linux["namespaces"] = append(linux["namespaces"].([]map[string]string), map[string]string{"type": "network"})
		for name, content := range map[string]string{"hosts": platformHosts, "resolv.conf": platformResolv} {
			must(k.t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
			config["mounts"] = append(config["mounts"].([]map[string]any), map[string]any{
				"destination": "/etc/" + name, "type": "bind", "source": filepath.Join(dir, name), "options": []string{"bind", "rw"}})
		}
	}
	if options.noCgroup {
		config["mounts"] = slices.DeleteFunc(config["mounts"].([]map[string]any), func(mount map[string]any) bool { return mount["type"] == "cgroup" })
	}
	encoded, err := json.Marshal(config)
	must(k.t, err)
	must(k.t, os.WriteFile(filepath.Join(dir, "config.json"), encoded, 0o600))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func (k *task) said() string {
	text, _ := os.ReadFile(k.output)
	return string(text)
}

// await waits for a condition.
func (k *task) await(what string, condition func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			k.t.Fatalf("%s: not within two minutes; the agent said:\n%s", what, k.said())
		}
	}
}

func (k *task) awaitReady() {
	k.t.Helper()
	k.await("ready", func() bool {
		ended := false
		select {
		case <-k.ended:
			ended = true
		default:
		}
		ready := strings.Contains(k.said(), "the agent is ready")
		if ended && !ready {
			k.t.Fatalf("the container ended at once:\n%s", k.said())
		}
		return ready
	})
}

// signal signals the container's PID 1, like a platform.
func (k *task) signal(signal syscall.Signal) {
	k.t.Helper()
	output, err := exec.Command("runc", "--root", k.runc, "kill", k.name, fmt.Sprint(int(signal))).CombinedOutput()
	if err != nil {
		k.t.Fatalf("kill: %v\n%s", err, output)
	}
}

// exitCode waits for the container's end.
func (k *task) exitCode() int {
	k.t.Helper()
	select {
	case <-k.ended:
		return k.run.ProcessState.ExitCode()
	case <-time.After(2 * time.Minute):
		k.t.Fatalf("the container does not end; the agent said:\n%s", k.said())
		return -1
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	assert.NilError(t, err)
}
