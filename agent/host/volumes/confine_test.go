package volumes

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// opens counts how often directories are opened from now on. Closing is watched
// so that the kernel does not merge two openings into one event.
func opens(t *testing.T, directories ...string) (count func() int) {
	t.Helper()
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	assert.NilError(t, err)
	t.Cleanup(func() { unix.Close(watch) })
	for _, directory := range directories {
		_, err := unix.InotifyAddWatch(watch, directory, unix.IN_OPEN|unix.IN_CLOSE)
		assert.NilError(t, err)
	}
	return func() (found int) {
		events := make([]byte, 64<<10)
		n, err := unix.Read(watch, events)
		if err == unix.EAGAIN {
			return 0
		}
		assert.NilError(t, err)
		for at := 0; at < n; {
			mask, name := binary.NativeEndian.Uint32(events[at+4:]), binary.NativeEndian.Uint32(events[at+12:])
			if mask&unix.IN_OPEN != 0 && name == 0 { // the directory itself, not a file in it
				found++
			}
			at += unix.SizeofInotifyEvent + int(name)
		}
		return found
	}
}

func TestABindLooksAtNoVolumeThatMayBeBound(t *testing.T) {
	s := openStore(t)
	plain := filepath.Dir(s.make("plain", "local"))
	opened := opens(t, s.Store.dir, plain)
	for _, path := range []string{"/etc", "/etc/hostname", "/no/such/path"} {
		s.must(s.refuseBind(path))
	}
	if count := opened(); count != 0 {
		t.Errorf("directories of volumes were opened %d times", count)
	}
}

func TestABindOfADirectoryOpensNoVolumeOfOneContainer(t *testing.T) {
	s := openStore(t)
	opened := opens(t, filepath.Dir(s.make("disk", "block")))
	for _, path := range []string{"/etc", "/no/such/path", "/dev/null"} {
		s.must(s.refuseBind(path))
	}
	if count := opened(); count != 0 {
		t.Errorf("its directory was opened %d times", count)
	}
}

func TestTheBindsOfARequestLookAtAVolumeOfOneContainerOnce(t *testing.T) {
	s := openStore(t)
	disk, plain := filepath.Dir(s.make("disk", "block")), filepath.Dir(s.make("plain", "local"))
	opened := opens(t, disk, plain)
	binds, err := s.CheckBinds()
	s.must(err)
	for i := range 100 {
		path := filepath.Join(s.dir, fmt.Sprint(i))
		s.must(os.WriteFile(path, nil, 0o600))
		s.must(binds.Refuse(path))
	}
	if count := opened(); count != 1 {
		t.Errorf("directories of volumes were opened %d times", count)
	}
}

func TestAVolumeOfOneContainerIsKnownAfterARestart(t *testing.T) {
	s := openStore(t)
	link := filepath.Join(s.dir, "hard")
	s.must(os.Link(filepath.Join(filepath.Dir(s.make("disk", "block")), "volume.img"), link))
	next := stored{reopen(t, s.dir, s.trash), t, s.dir}
	if err := next.refuseBind(link); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
	s.must(next.Remove(t.Context(), "disk"))
	next.make("disk", "local")
	s.must(next.refuseBind(link))
}

// As a restored backup is.
func TestAVolumeOfOneContainerThatIsPutIntoTheDirectoryIsKnownOnceItIsUsed(t *testing.T) {
	s := openStore(t)
	directory := filepath.Dir(s.make("disk", "block"))
	backup := filepath.Join(s.dir, "backup")
	s.must(os.Rename(directory, backup))
	next := stored{reopen(t, s.dir, s.trash), t, s.dir}
	s.must(os.Rename(backup, directory))
	link := filepath.Join(s.dir, "hard")
	s.must(os.Link(filepath.Join(directory, "volume.img"), link))
	s.must(next.Hold(t.Context(), "one", filepath.Join(directory, "_data")))
	if err := next.refuseBind(link); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
	s.must(next.Release(t.Context(), "one"))
}
