package notify

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestEachMessageIsADatagram(t *testing.T) {
	for name, socket := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": "@sockerless-" + filepath.Base(t.TempDir()) + t.Name(),
	} {
		t.Run(name, func(t *testing.T) {
			manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			assert.NilError(t, err)
			defer manager.Close()
			assert.NilError(t, forward(strings.NewReader("READY=1\nSTATUS=serves\n\nSTOPPING=1\n\n"), socket))
			for _, want := range []string{"READY=1\nSTATUS=serves", "STOPPING=1"} {
				buffer := make([]byte, 1024)
				n, err := manager.Read(buffer)
				if err != nil || string(buffer[:n]) != want {
					t.Fatalf("got %q, %v; want %q", buffer[:n], err, want)
				}
			}
		})
	}
}
