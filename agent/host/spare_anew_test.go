package host_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

// ofTheRuntime is a spare's launch whose command the runtime alone finds, so that
// the shim makes the container anew.
func (h *hostProcess) ofTheRuntime(t *testing.T, layer string) *hostv1.LaunchContainerRequest {
	t.Helper()
	request := h.created(t, layer)
	request.OciSpec = ociSpec(t, "sh", "-c", "sleep 1000")
	withConfig(t, request, func(c map[string]any) { processOf(c)["env"] = []string{"PATH=relative:/bin"} })
	return request
}

// startFor starts a container for some time, as somebody does who does not wait for
// the answer, and then answers what ends the call.
func startFor(t *testing.T, c *running, moment time.Duration) (answered func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Start(ctx, connect.NewRequest(&agentv1.StartRequest{Generation: 1}))
	}()
	time.Sleep(moment)
	return func() {
		cancel()
		<-done
	}
}

func TestAContainerIsReleasedWhileItIsMadeAnew(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	for moment := time.Millisecond; moment < 80*time.Millisecond; moment += 4 * time.Millisecond {
		t.Run(fmt.Sprint(moment), func(t *testing.T) {
			request := h.ofTheRuntime(t, layer)
			answered := startFor(t, h.mustLaunch(t, request), moment)
			h.release(t, request.ContainerId)
			answered()
			h.wantNothingLeft(t, request.ContainerId)
			// A shim that is killed since it does not leave records nothing.
			if disk := h.onDisk(t, request.ContainerId); disk.LastState.GetExit() == nil && disk.LastState.GetFailure() == nil {
				t.Errorf("on disk %v", disk)
			}
			h.remove(t, request.ContainerId)
		})
	}
}

func TestAShimThatIsKilledWhileItMakesAContainerAnewLeavesNothing(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	for moment := 2 * time.Millisecond; moment < 110*time.Millisecond; moment += 4 * time.Millisecond {
		t.Run(fmt.Sprint(moment), func(t *testing.T) {
			request := h.ofTheRuntime(t, layer)
			c := h.mustLaunch(t, request)
			shim := h.readinessOf(t, request.ContainerId).ShimPID
			answered := startFor(t, c, moment)
			if err := unix.Kill(shim, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			h.remove(t, request.ContainerId)
			answered()
			h.wantNothingLeft(t, request.ContainerId)
		})
	}
}

func TestASpareThatItsShimEndsIsNotClaimed(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	for name, ends := range map[string]func(t *testing.T, id string){
		"it has": func(t *testing.T, id string) {
			if err := os.Remove(filepath.Join(h.runDir, "c", id[:16], "ready.json")); err != nil {
				t.Fatal(err)
			}
		},
		"it is at it": func(t *testing.T, id string) {
			directory, err := os.Open(filepath.Join(h.stateDir, "containers", id))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { directory.Close() })
			if err := unix.Flock(int(directory.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			request := h.created(t, layer)
			waiting := h.mainOf(t, request.ContainerId)
			ends(t, request.ContainerId)
			c := h.mustLaunch(t, request)
			if c.Pid == waiting {
				t.Error("it is claimed")
			}
			c.start(t, 1)
			if got := c.output(t); got != withoutNote {
				t.Error(got)
			}
			h.remove(t, request.ContainerId)
			h.wantNothingLeft(t, request.ContainerId)
		})
	}
}

func TestNoSpareIsLeftOfALayerThatIsRemovedMeanwhile(t *testing.T) {
	h := startHost(t)
	for moment := time.Duration(0); moment < 60*time.Millisecond; moment += 3 * time.Millisecond {
		layer := h.unpackImage(t)
		request := spareOf(t, layer, noNetwork(), "true")
		prepared := make(chan error, 1)
		go func() { prepared <- h.prepareSpare(t, request) }()
		time.Sleep(moment)
		if _, err := h.RemoveLayer(t.Context(), connect.NewRequest(&hostv1.RemoveLayerRequest{DiffId: layer})); err != nil {
			t.Error(moment, err)
		}
		<-prepared
		h.wantNothingLeft(t, request.ContainerId)
		h.wantNoFiles(t, request.ContainerId)
	}
}
