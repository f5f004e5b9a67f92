package mirror

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestListeningSocketsAreReadFromTheKernelsTables(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20611 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20612 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:A0B0 01 00000000:00000000 00:00000000 00000000     0        0 20613 1 0000000000000000 100 0 0 10 0
   3: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1
   4: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1
`
	found, err := parseSockets(strings.NewReader(table), stateListen, nil)
	assert.NilError(t, err)
	want := addresses("127.0.0.1:8080", "0.0.0.0:22", "[::1]:80", "127.0.0.1:81")
	assert.Check(t, reflect.DeepEqual(found, want), "found %v, not %v", found, want)
	if _, err := parseSockets(strings.NewReader("heading\n0: x:y z 0A\n"), stateListen, nil); err == nil {
		t.Error("nonsense was taken for a table")
	}
}

func addresses(texts ...string) []netip.AddrPort {
	var list []netip.AddrPort
	for _, text := range texts {
		list = append(list, netip.MustParseAddrPort(text))
	}
	return list
}

func TestWhereAListenerIsMirrored(t *testing.T) {
	t.Parallel()
	own := netip.MustParseAddr("10.0.0.1")
	for _, c := range []struct {
		listeners string
		want      map[string]string // place → the partner's address
	}{
		{"127.0.0.1:80", map[string]string{"tcp4 127.0.0.1:80": "127.0.0.1"}},
		{"[::1]:80", map[string]string{"tcp6 [::1]:80": "::1"}},
		{"0.0.0.0:80", map[string]string{"tcp4 0.0.0.0:80": "0.0.0.0"}},
		{"[::]:80", map[string]string{"tcp [::]:80": "::"}},
		{"0.0.0.0:80 [::]:80 [::]:81", map[string]string{"tcp4 0.0.0.0:80": "0.0.0.0", "tcp6 [::]:80": "::", "tcp [::]:81": "::"}},
		{"10.0.0.2:80", map[string]string{"tcp4 10.0.0.1:80": "10.0.0.2"}},
		{"169.254.170.2:80 [2001:db8::1]:80 [fe80::1]:80", map[string]string{}},
	} {
		got := make(map[string]string)
		for at, bound := range placesOf(addresses(strings.Fields(c.listeners)...), own) {
			got[at.network+" "+at.bind.String()] = bound.String()
		}
		assert.Check(t, reflect.DeepEqual(got, c.want), "%s: mirrored at %v, not %v", c.listeners, got, c.want)
	}
	assert.Check(t, is.Len(placesOf(addresses("10.0.0.2:80"), netip.Addr{}), 0), "without an own address")
}

func TestAListenerEverywhereIsDialledInTheFamilyOfTheConnection(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"0.0.0.0", "10.0.0.1", "127.0.0.1"},
		{"::", "::ffff:10.0.0.1", "127.0.0.1"},
		{"::", "2001:db8::1", "::1"},
		{"10.0.0.2", "10.0.0.1", "10.0.0.2"},
	} {
		if got := dialled(netip.MustParseAddr(c[0]), netip.MustParseAddr(c[1])); got.String() != c[2] {
			t.Errorf("%s, when a connection comes to %s: %s", c[0], c[1], got)
		}
	}
}

func TestWhatAMirrorEverywhereTakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		network, bind, address string
		want                   bool
	}{
		{"tcp4", "127.0.0.1:80", "127.0.0.1:80", true},
		{"tcp4", "127.0.0.1:80", "127.0.0.1:81", false},
		{"tcp4", "127.0.0.1:80", "[::ffff:127.0.0.1]:80", true},
		{"tcp4", "0.0.0.0:80", "127.0.0.1:80", true},
		{"tcp4", "0.0.0.0:80", "[::ffff:127.0.0.1]:80", true},
		{"tcp4", "0.0.0.0:80", "[::1]:80", false},
		{"tcp6", "[::]:80", "[::1]:80", true},
		{"tcp6", "[::1]:80", "[::1%lo]:80", true},
		{"tcp6", "[::]:80", "127.0.0.1:80", false},
		{"tcp", "[::]:80", "127.0.0.1:80", true},
		{"tcp", "[::]:80", "[::1]:80", true},
	} {
		at := place{c.network, netip.MustParseAddrPort(c.bind)}
		if got := at.covers(netip.MustParseAddrPort(c.address)); got != c.want {
			t.Errorf("%s %s takes connections to %s: %v", c.network, c.bind, c.address, got)
		}
	}
}
