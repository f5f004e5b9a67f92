package host

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// The backend takes RESOURCE_EXHAUSTED for a port or an address pool in use.
func TestAFullDiskIsNoPortThatIsTaken(t *testing.T) {
	err := wireError(fmt.Errorf("write a file: %w", unix.ENOSPC))
	if connect.CodeOf(err) != connect.CodeInternal || err.Error() != "internal: write a file: no space left on device" {
		t.Error(err)
	}
}
