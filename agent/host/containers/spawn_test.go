package containers

import (
	"encoding/json"
	"os"
	"testing"

	"gotest.tools/v3/assert"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// RTP has 10,000 ports, at two addresses each.
func TestAShimIsReadyHoweverManyPortsItHasBound(t *testing.T) {
	ready := shimspec.Readiness{Version: 1, Generation: 1}
	for port := range uint32(1 << 16) {
		for _, address := range []string{"0.0.0.0", "::"} {
			for _, protocol := range []string{"tcp", "udp"} {
				ready.BoundPorts = append(ready.BoundPorts, shimspec.BoundPort{Protocol: protocol, HostIP: address, HostPort: port, ContainerPort: port})
			}
		}
	}
	line, err := json.Marshal(ready)
	assert.NilError(t, err)
	read, write, err := os.Pipe()
	assert.NilError(t, err)
	defer read.Close()
	go func() {
		defer write.Close()
		_, _ = write.Write(append(line, '\n'))
	}()
	got, err := awaitReadiness(t.Context(), read)
	if err != nil || len(got.BoundPorts) != len(ready.BoundPorts) {
		t.Errorf("%d of %d ports: %v", len(got.BoundPorts), len(ready.BoundPorts), err)
	}
}
