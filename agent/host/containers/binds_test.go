package containers

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes"
	"github.com/sockerless/sockerless/agent/host/volumes/block"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

func TestARequestsBindsLookAtVolumesOnce(t *testing.T) {
	c := newContainers(t)
	dir := t.TempDir()
	can, err := trash.Open(filepath.Join(dir, "trash"))
	assert.NilError(t, err)
	t.Cleanup(can.Close)
	paths := userpaths.New()
	kept, err := volumes.Open(volumes.Options{
		Dir: filepath.Join(dir, "volumes"), RunDir: filepath.Join(dir, "run"), Trash: can, UserPaths: paths,
		Drivers: []driver.Driver{block.Driver{DefaultSize: 32 << 20}},
	})
	assert.NilError(t, err)
	c.volumes, c.userPaths = kept, paths
	made, err := kept.Create(t.Context(), &hostv1.CreateVolumeRequest{Name: "disk", Driver: block.Driver{}.Traits().Name})
	assert.NilError(t, err)
	opened := opens(t, filepath.Dir(made.Path))
	var sources []string
	launched := &launch{Containers: c, request: &hostv1.LaunchContainerRequest{}}
	for _, name := range []string{"a", "b", "c", "a"} {
		path := filepath.Join(dir, name)
		assert.NilError(t, os.WriteFile(path, nil, 0o600))
		sources = append(sources, path)
		launched.request.BindSources = append(launched.request.BindSources, &hostv1.BindSource{Path: path})
	}
	request := &hostv1.CreateContainerRequest{ContainerId: strings.Repeat("ab", 32), BindSources: sources}
	if err := c.Create(t.Context(), request); err != nil || opened() != 1 {
		t.Errorf("a creation opened the volume %d times: %v", opened(), err)
	}
	if err := launched.ensureBindSources(t.Context()); err != nil || opened() != 2 {
		t.Errorf("a launch and a creation opened the volume %d times: %v", opened(), err)
	}
}

// opens counts how often a directory has been opened since.
func opens(t *testing.T, directory string) (count func() int) {
	t.Helper()
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	assert.NilError(t, err)
	t.Cleanup(func() { unix.Close(watch) })
	// With IN_CLOSE no two openings are merged.
	_, err = unix.InotifyAddWatch(watch, directory, unix.IN_OPEN|unix.IN_CLOSE|unix.IN_ONLYDIR)
	assert.NilError(t, err)
	seen := 0
	return func() int {
		events := make([]byte, 64<<10)
		n, _ := unix.Read(watch, events)
		for at := 0; at < n; {
			mask, name := binary.NativeEndian.Uint32(events[at+4:]), binary.NativeEndian.Uint32(events[at+12:])
			if mask&unix.IN_OPEN != 0 && name == 0 {
				seen++
			}
			at += unix.SizeofInotifyEvent + int(name)
		}
		return seen
	}
}

func TestWhatIsNamedTwiceIsLookedAtOnce(t *testing.T) {
	if found := distinct([]string{"b", "a", "b"}); strings.Join(found, "") != "ba" {
		t.Error(found)
	}
}
