package host_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

// startFaulty starts a host process that can be killed at a named step, as its
// shims can, and answers what arms that.
func startFaulty(t *testing.T) (h *hostProcess, arm func(step string)) {
	t.Helper()
	requireRoot(t)
	faulty := filepath.Join(t.TempDir(), "sockerless-agent")
	if err := buildAgent(faulty, "-tags=faultpoints"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "step")
	t.Setenv("SOCKERLESS_FAULT_POINT_FILE", file)
	h = startHost(t)
	h.stop(t)
	h.agent = faulty
	h.start(t)
	return h, func(step string) {
		if err := os.WriteFile(file, []byte(step), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// restart starts the host process again if it was killed.
func (h *hostProcess) restart(t testing.TB) {
	t.Helper()
	answered := make(chan error, 1)
	go func() { answered <- h.command.Wait() }()
	select {
	case <-answered:
		h.stdin.Close()
	case <-time.After(200 * time.Millisecond): // it was a shim that was killed
		h.command.Process.Kill()
		<-answered
		h.stdin.Close()
	}
	h.command = nil
	h.start(t)
}

// stepsOfSpares are all at which one of the processes may be killed, by what is
// done.
var stepsOfSpares = map[string][]string{
	"prepare": {
		"host.create.directories", "host.create.working-directory", "host.create.seeded", "host.spare.created", "host.launch.run-directory",
		"host.launch.shim-spawned", "host.launch.namespace-made", "host.launch.mounted", "host.launch.prepared", "host.launch.specified",
		"shim.start.created", "shim.spare.executing", "shim.start.announced", "host.launch.shim-ready", "host.spare.launched",
	},
	"claim": {"host.launch.mounted", "host.claim.prepared", "host.claim.configured", "host.claim.specified"},
	"end":   {"host.release.stopped", "host.release.unmounted", "host.spare.released"},
	"start": {"shim.start.executing"},
}

func TestASpareWhoseMakersAreKilledLeavesNothing(t *testing.T) {
	h, arm := startFaulty(t)
	layer := h.unpackImage(t)
	h.ensureNetwork(t, testNetwork())
	for does, steps := range stepsOfSpares {
		for _, step := range steps {
			t.Run(does+" "+step, func(t *testing.T) {
				request := spareOf(t, layer, onTestBridge(2), "echo ran; cat /note 2>&1")
				id := request.ContainerId
				if does == "prepare" {
					arm(step)
					if err := h.prepareSpare(t, request); err == nil && step != "shim.start.announced" {
						t.Fatal("nothing was killed")
					}
					h.restart(t)
					eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, id)) == 0 })
					// As of any creation that was cut short.
					isCut := step == "host.create.directories" || step == "host.create.working-directory" || step == "host.create.seeded"
					if h.onDisk(t, id) != nil && !isCut {
						t.Error("it is listed")
					}
					h.mustCreate(t, createOf(request))
					h.wantItRuns(t, request, withoutNote)
					return
				}
				h.mustPrepare(t, request)
				h.mustCreate(t, createOf(request))
				arm(step)
				switch does {
				case "claim":
					if _, err := h.launch(t, request); err == nil {
						t.Fatal("nothing was killed")
					}
				case "end":
					h.ReleaseContainer(t.Context(), connect.NewRequest(&hostv1.ReleaseContainerRequest{ContainerId: id}))
				case "start":
					c := h.mustLaunch(t, request)
					c.Start(t.Context(), connect.NewRequest(&agentv1.StartRequest{Generation: 1}))
				}
				h.restart(t)
				if step != "host.claim.specified" {
					eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, id)) == 0 })
				}
				if does == "start" {
					request.Generation = 2 // it has run, whatever became of it
				}
				h.wantItRuns(t, request, withoutNote)
			})
		}
	}
}
