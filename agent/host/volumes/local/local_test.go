package local

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
)

func TestOptionsAreRefusedInDockersWords(t *testing.T) {
	for _, c := range []struct {
		options map[string]string
		want    string
	}{
		{nil, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, ""},
		{map[string]string{"foo": "bar"}, `invalid option: "foo"`},
		{map[string]string{"type": "tmpfs"}, `missing required option: "device"`},
		{map[string]string{"device": "/x"}, `missing required option: "type"`},
		{map[string]string{"o": "bind", "type": "none"}, `missing required option: "device"`},
		{map[string]string{"size": "1g"}, "quota size requested but no quota support"},
		{map[string]string{"size": "0"}, ""},
		{map[string]string{"size": "much"}, "invalid size: 'much'"},
		{map[string]string{"type": "cifs", "device": "//host:445/share"}, "port not allowed in CIFS device URL, include 'port' in 'o='"},
	} {
		err := Driver{}.Check(c.options)
		if c.want == "" && err != nil {
			t.Errorf("%v: %v", c.options, err)
		}
		var coded *connect.Error
		if c.want != "" && (!errors.As(err, &coded) || coded.Code() != connect.CodeInvalidArgument || coded.Message() != c.want) {
			t.Errorf("%v: %v", c.options, err)
		}
	}
}

// Only the arguments of mount(2) are tested: the kernel of a test machine may not have
// these file systems.
func TestNamesOfNetworkFileSystemsBecomeAddresses(t *testing.T) {
	resolve := func(_, name string) (*net.IPAddr, error) {
		if name != "server" {
			return nil, errors.New("no such host")
		}
		return &net.IPAddr{IP: net.IPv4(192, 0, 2, 7)}, nil
	}
	for _, c := range []struct{ kind, device, options, wantDevice, want string }{
		{"nfs", ":/export", "addr=server,rw", ":/export", "addr=192.0.2.7,rw"},
		{"nfs", ":/export", "addr=192.0.2.1", ":/export", "addr=192.0.2.1"},
		{"cifs", "//server/share", "username=a", "//192.0.2.7/share", "username=a"},
		{"cifs", "//server/a share", "addr=server", "//server/a share", "addr=192.0.2.7"},
		{"none", "/dir", "addr=server", "/dir", "addr=server"},
	} {
		device, options, err := resolved(map[string]string{"type": c.kind, "device": c.device, "o": c.options}, resolve)
		if err != nil || device != c.wantDevice || options != c.want {
			t.Errorf("%+v: %q %q %v", c, device, options, err)
		}
	}
	_, _, err := resolved(map[string]string{"type": "nfs", "device": ":/x", "o": "addr=nobody"}, resolve)
	if err == nil || err.Error() != "error resolving passed in network volume address: no such host" {
		t.Error(err)
	}
}

// The kernel refuses the version even without NFS, and the error shows mount(2)'s
// arguments.
func TestNFSIsMountedByTheAddressOfItsServer(t *testing.T) {
	v := driver.Volume{Name: "v", Dir: t.TempDir(), Options: map[string]string{"type": "nfs", "device": ":/export", "o": "addr=localhost,vers=9,ro"}}
	assert.NilError(t, os.Mkdir(v.Data(), 0o755))
	err := Driver{}.Mount(t.Context(), v)
	want := "error while mounting volume '" + v.Data() + "': failed to mount local volume: mount :/export:" + v.Data() + ", flags: 0x1, data: addr=127.0.0.1,vers=9: "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, not %s", err, want)
	}
}

func TestOptionsAreMounted(t *testing.T) {
	source := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(source, "file"), nil, 0o600))
	mounted := func(options map[string]string) (driver.Volume, error) {
		v := driver.Volume{Name: "v", Dir: t.TempDir(), Options: options}
		assert.NilError(t, os.Mkdir(v.Data(), 0o755))
		t.Cleanup(func() { mounts.Unmount(v.Data()) })
		return v, Driver{}.Mount(t.Context(), v)
	}
	v, err := mounted(map[string]string{"type": "none", "device": source, "o": "bind"})
	assert.NilError(t, err)
	_, err = os.Stat(filepath.Join(v.Data(), "file"))
	assert.Check(t, err)
	v, err = mounted(map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"})
	var stat unix.Stat_t
	var disk unix.Statfs_t
	assert.NilError(t, errors.Join(err, unix.Stat(v.Data(), &stat), unix.Statfs(v.Data(), &disk)))
	if stat.Uid != 7 || disk.Blocks*uint64(disk.Bsize) != 1<<20 {
		t.Errorf("uid %d, %d blocks", stat.Uid, disk.Blocks)
	}
	v, err = mounted(map[string]string{"type": "none", "device": source + "/missing", "o": "bind"})
	want := "error while mounting volume '" + v.Data() + "': failed to mount local volume: mount " + source + "/missing:" + v.Data() + ", flags: 0x1000: no such file or directory"
	if err == nil || err.Error() != want {
		t.Error(err)
	}
	_, err = mounted(map[string]string{"type": "no such", "device": "x", "o": "password=secret,rw"})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
