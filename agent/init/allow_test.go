package containerinit

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/init/mirror"
)

func TestAPartnerDoesNotReachTheAgentInAnotherNotation(t *testing.T) {
	t.Parallel()
	p := &partnership{Mirror: mirror.New(mirror.Options{}), port: 9111}
	t.Cleanup(p.Close)
	for address, want := range map[string]error{
		"127.0.0.1:80":            nil,
		"[::ffff:127.0.0.1]:80":   nil,
		"[::1%lo]:80":             nil,
		"127.0.0.1:9111":          unix.ECONNREFUSED,
		"[::ffff:127.0.0.1]:9111": unix.ECONNREFUSED,
		"[::1%lo]:9111":           unix.ECONNREFUSED,
		"127.0.0.11:53":           unix.ECONNREFUSED,
		"[::ffff:127.0.0.11]:53":  unix.ECONNREFUSED,
	} {
		if err := p.allow("tcp", netip.MustParseAddrPort(address)); !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", address, err, want)
		}
	}
	if err := p.allow("tcp", netip.MustParseAddrPort("[::ffff:169.254.170.2]:80")); err == nil {
		t.Error("a partner reaches another address in another notation")
	}
}
