package host_test

import (
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// BenchmarkLaunch measures what a client waits for between `docker start` and the
// first instruction of its command: launch and Start, on a bridge. Creating and
// releasing are not counted.
func BenchmarkLaunch(b *testing.B) {
	h := startHost(b)
	layer := h.unpackImage(b)
	h.ensureNetwork(b, &hostv1.EnsureNetworkRequest{NetworkId: "n", Bridge: "sklbench0", Gateway: "10.213.7.1/24"})
	var launching, starting, releasing time.Duration
	for b.Loop() {
		b.StopTimer()
		id := h.create(b, layer)
		request := sleeper(b, id, layer, onBridge("sklbench0", "10.213.7.2/24", "10.213.7.1"))
		b.StartTimer()
		begin := time.Now()
		c := h.mustLaunch(b, request)
		launched := time.Now()
		_, err := c.Start(b.Context(), connect.NewRequest(&agentv1.StartRequest{Generation: 1}))
		assert.NilError(b, err)
		started := time.Now()
		b.StopTimer()
		launching += launched.Sub(begin)
		starting += started.Sub(launched)
		h.release(b, id)
		releasing += time.Since(started)
		b.StartTimer()
	}
	reportMilliseconds(b, map[string]time.Duration{"ms-launch": launching, "ms-start": starting, "ms-release": releasing})
}

// BenchmarkRestart measures the next generation of a container whose process has
// just ended: its launch includes releasing the last one.
func BenchmarkRestart(b *testing.B) {
	h := startHost(b)
	layer := h.unpackImage(b)
	h.ensureNetwork(b, &hostv1.EnsureNetworkRequest{NetworkId: "n", Bridge: "sklbench0", Gateway: "10.213.7.1/24"})
	id := h.create(b, layer)
	generation := uint64(0)
	for b.Loop() {
		generation++
		request := sleeper(b, id, layer, onBridge("sklbench0", "10.213.7.2/24", "10.213.7.1"))
		request.Generation, request.OciSpec = generation, ociSpec(b, "true")
		c := h.mustLaunch(b, request)
		c.start(b, generation)
		b.StopTimer()
		c.output(b)
		b.StartTimer()
	}
	h.release(b, id)
}

func reportMilliseconds(b *testing.B, totals map[string]time.Duration) {
	for unit, total := range totals {
		b.ReportMetric(total.Seconds()*1000/float64(b.N), unit)
	}
}

// BenchmarkCreate measures a container's creation, without its removal.
func BenchmarkCreate(b *testing.B) {
	h := startHost(b)
	layer := h.unpackImage(b)
	for b.Loop() {
		id := h.create(b, layer)
		b.StopTimer()
		_, err := h.RemoveContainer(b.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
		assert.NilError(b, err)
		b.StartTimer()
	}
}
