package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/host/layers"
	"github.com/sockerless/sockerless/agent/host/network"
	"github.com/sockerless/sockerless/agent/host/ociruntime"
	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/volumes"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// The test program is its own shim: one that is ready at once, or behaves as
// shimMarker says. So a launch costs only the host process's own work.
const netnsMarker = "SOCKERLESS_TEST_NETNS"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "shim" && os.Getenv(shimMarker) != "":
		beUnready(os.Getenv(shimMarker))
	case len(os.Args) > 1 && os.Args[1] == "--root":
		unix.Pause() // the OCI runtime, at work
	case len(os.Args) > 1 && os.Args[1] == "shim":
		json.NewEncoder(os.NewFile(shimspec.ReadinessFD, "readiness")).Encode(shimspec.Readiness{Version: shimspec.Version, Generation: 1})
		os.Exit(0)
	case os.Geteuid() != 0:
		fmt.Println("containers need root")
		os.Exit(0)
	case os.Getenv(netnsMarker) == "":
		inside := exec.Command("/proc/self/exe", os.Args[1:]...)
		inside.Env = append(os.Environ(), netnsMarker+"=1")
		inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
		inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
		if err := inside.Run(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func newContainers(t testing.TB) *Containers {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-") // short enough for sockets in it
	assert.NilError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	layout := shimspec.Layout{StateDir: filepath.Join(dir, "s"), RunDir: filepath.Join(dir, "r")}
	can, err := trash.Open(filepath.Join(layout.StateDir, "trash"))
	assert.NilError(t, err)
	t.Cleanup(can.Close)
	store, err := layers.Open(filepath.Join(layout.StateDir, "layers"), can)
	assert.NilError(t, err)
	t.Cleanup(store.Close)
	instance, err := network.NewInstance("0123abcd", layout.NetworkNamespaces())
	assert.NilError(t, err)
	kept, err := volumes.Open(volumes.Options{Dir: filepath.Join(layout.StateDir, "volumes"), RunDir: layout.RunDir, Trash: can})
	assert.NilError(t, err)
	c, err := New(Options{
		Layout: layout, Layers: store, Network: instance, Trash: can, Volumes: kept, AgentPath: "/proc/self/exe",
		Runtime: func(context.Context) (ociruntime.Runtime, error) {
			return ociruntime.Runtime{Path: "/bin/false", Root: layout.RuntimeRoot()}, nil
		},
	})
	assert.NilError(t, err)
	return c
}

// BenchmarkOwnWork measures a launch on a bridge without the shim's and the
// runtime's share, except starting a process.
func BenchmarkOwnWork(b *testing.B) {
	c := newContainers(b)
	assert.NilError(b, c.network.Ensure(network.Bridge{Name: "skl0", Gateway: "10.213.1.1/24"}))
	defer c.network.Remove("skl0")
	id := strings.Repeat("ab", 32)
	assert.NilError(b, c.Create(b.Context(), &hostv1.CreateContainerRequest{ContainerId: id}))
	// About as long as Docker's configuration with its seccomp list.
	config := fmt.Appendf(nil, `{"ociVersion":"1.0.2","process":{"args":["sh"],"cwd":"/"},"annotations":{"padding":%q}}`, strings.Repeat("x", 20_000))
	request := &hostv1.LaunchContainerRequest{
		ContainerId: id, Generation: 1, OciSpec: config,
		Network: &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_Bridged{Bridged: &hostv1.Bridged{
			Interfaces: []*hostv1.Interface{{Bridge: "skl0", Address: "10.213.1.2/24", Gateway: "10.213.1.1"}},
		}}},
		Files: []*hostv1.ManagedFile{{ContainerPath: "/etc/hosts", Content: []byte("127.0.0.1 localhost\n"), Mode: 0o644}},
	}
	for b.Loop() {
		_, err := c.Launch(b.Context(), request)
		assert.NilError(b, err)
		b.StopTimer()
		assert.NilError(b, c.Release(b.Context(), id))
		b.StartTimer()
	}
}
