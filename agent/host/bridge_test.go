package host_test

import (
	"fmt"
	"os"
	"testing"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// testBridge belongs to this run of the tests only: another may run at the same
// time. Its name has the maximum length.
var testBridge = fmt.Sprintf("skltest%08x", os.Getpid())

// testAddress is in the bridge's network, which is very probably unique to this
// run.
func testAddress(number int) string { return fmt.Sprintf("10.213.%d.%d", 16+os.Getpid()%240, number) }

func testNetwork() *hostv1.EnsureNetworkRequest {
	return &hostv1.EnsureNetworkRequest{NetworkId: "n", Bridge: testBridge, Gateway: testAddress(1) + "/24"}
}

// onTestBridge has an address on the bridge, which is the gateway.
func onTestBridge(number int) *hostv1.NetworkNamespace {
	return onBridge(testBridge, testAddress(number)+"/24", testAddress(1))
}

func startHostOnBridge(t testing.TB) *hostProcess {
	t.Helper()
	h := startHost(t)
	h.ensureNetwork(t, testNetwork())
	return h
}
