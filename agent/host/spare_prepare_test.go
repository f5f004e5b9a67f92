package host_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

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
		"the machine's processes": {config(func(c map[string]any) {
			linux := c["linux"].(map[string]any)
			linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool { return n.(map[string]any)["type"] == "pid" })
		}), refused},
		"a seed": {func(r *hostv1.PrepareSpareRequest) {
			r.Create.VolumeSeeds = []*hostv1.VolumeSeed{{Path: "/etc", VolumePath: filepath.Join(h.stateDir, "volumes", "v")}}
		}, refused},
		"a bind":           {config(withMount(map[string]any{"destination": "/tmp", "type": "bind", "source": "/tmp", "options": []string{"rbind"}})), refused},
		"a hidden bind":    {config(withMount(map[string]any{"destination": "/tmp", "type": "tmpfs", "source": "/tmp", "options": []string{"bind"}})), refused},
		"a parameter":      {config(withSysctl("net.ipv4.conf.eth0.log_martians")), refused},
		"a label":          {config(func(c map[string]any) { processOf(c)["apparmorProfile"] = "unconfined" }), refused},
		"user's processes": {config(withRlimit("RLIMIT_NPROC")), refused},
		"little memory":    {config(withRlimit("RLIMIT_AS")), refused},
		"little data":      {config(withRlimit("RLIMIT_DATA")), refused},
		"root without what it gets by an execution": {config(func(c map[string]any) {
			processOf(c)["capabilities"] = map[string]any{"bounding": []string{"CAP_CHOWN"}}
		}), refused},
		"a filter that ends the process": {config(func(c map[string]any) {
			c["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
				map[string]any{"names": []string{"getcpu"}, "action": "SCMP_ACT_KILL_PROCESS"}}}
		}), refused},
		"a filter that ends threads": {config(func(c map[string]any) {
			c["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
				map[string]any{"names": []string{"getcpu"}, "action": "SCMP_ACT_KILL_THREAD"}}}
		}), refused},
		"a filter that forbids to wait": {config(func(c map[string]any) {
			c["linux"].(map[string]any)["seccomp"] = map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
				map[string]any{"names": []string{"madvise"}, "action": "SCMP_ACT_ERRNO"}}}
		}), refused},
		"few processes": {config(func(c map[string]any) {
			c["linux"].(map[string]any)["resources"] = map[string]any{"pids": map[string]any{"limit": 16}}
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
			launched := spareOf(t, layer, onTestBridge(2), "true")
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

func withRlimit(kind string) func(map[string]any) {
	return func(config map[string]any) {
		processOf(config)["rlimits"] = []any{map[string]any{"type": kind, "soft": 1 << 20, "hard": 1 << 20}}
	}
}

func TestAnotherUsersSpareIsPreparedWhereAnExecutionTakesNothingFromIt(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	names := []string{"CAP_CHOWN", "CAP_KILL"}
	for name, capabilities := range map[string]map[string]any{
		"none":      {},
		"bounding":  {"bounding": names},
		"root's":    {"bounding": names, "permitted": names, "effective": names},
		"inherited": {"bounding": names, "permitted": names, "effective": names, "inheritable": names, "ambient": names},
	} {
		t.Run(name, func(t *testing.T) {
			request := spareOf(t, layer, noNetwork(), "id -un")
			request.User = "alice"
			withConfig(t, request, func(c map[string]any) { processOf(c)["capabilities"] = capabilities })
			h.mustPrepare(t, request)
			h.mustCreate(t, createOf(request))
			h.wantItRuns(t, request, "alice\n")
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
