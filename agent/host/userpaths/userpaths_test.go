package userpaths

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

func at(t *testing.T, request *hostv1.LookUpPathsRequest) *hostv1.LookUpPathsResponse {
	t.Helper()
	found, err := New().At(t.Context(), request)
	assert.NilError(t, err)
	return found
}

func TestPathsAreFoundWithoutLinks(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	assert.NilError(t, os.Symlink("/etc", link))
	loop := filepath.Join(dir, "loop")
	assert.NilError(t, os.Symlink(loop, loop))
	found := at(t, &hostv1.LookUpPathsRequest{Paths: []string{link, filepath.Join(dir, "none"), "/etc/passwd/x", loop}}).Paths
	if found[0].RealPath != "/etc" || found[0].Failure != "" {
		t.Error(found[0])
	}
	for _, missing := range found[1:3] {
		if !missing.Missing || missing.Failure == "" {
			t.Error(missing)
		}
	}
	if found[3].Missing || found[3].Failure == "" {
		t.Error(found[3])
	}
}

func TestDevices(t *testing.T) {
	found := at(t, &hostv1.LookUpPathsRequest{Devices: []string{"/dev/null", "/dev", "/etc/passwd", "/none"}, MachineDevices: true})
	null := found.Devices[0].Nodes
	if len(null) != 1 || null[0].Path != "" || null[0].Type != "c" || null[0].Major != 1 || null[0].Minor != 3 || null[0].Mode != 0o666 {
		t.Error(null)
	}
	names := func(nodes []*hostv1.DeviceNode) (all []string) {
		for _, node := range nodes {
			all = append(all, node.Path)
		}
		return all
	}
	if all := names(found.Devices[1].Nodes); !slices.Contains(all, "null") || !slices.Contains(all, "pts/ptmx") {
		t.Error(all)
	}
	for _, name := range names(found.MachineDevices) {
		if strings.HasPrefix(name, "pts/") || name == "console" {
			t.Error(name)
		}
	}
	if none := found.Devices[2]; len(none.Nodes) > 0 || none.Failure != "" {
		t.Error(none)
	}
	if failure := found.Devices[3].Failure; failure != "no such file or directory" {
		t.Error(failure)
	}
}

func TestFilesAreCountedOverAllDevices(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
	}
	found := at(t, &hostv1.LookUpPathsRequest{Devices: slices.Repeat([]string{dir}, mostFiles/11+1)}).Devices
	for i, each := range found {
		if isOver := i == len(found)-1; (each.Failure == "more than 10000 files") != isOver {
			t.Fatal(i, each.Failure)
		}
	}
}

func TestAFileSystemThatDoesNotAnswerHoldsUpNoOther(t *testing.T) {
	hung := make(chan struct{})
	defer close(hung)
	link := filepath.Join(t.TempDir(), "link")
	assert.NilError(t, os.Symlink("/proc/self", link))
	l := New()
	l.limit = 500 * time.Millisecond
	var looking sync.WaitGroup
	var stuck atomic.Int32
	for range mostUncounted + 2*mostOfOne {
		looking.Add(1)
		go func() {
			defer looking.Done()
			err := l.Do(t.Context(), link, func() error { stuck.Add(1); <-hung; return nil })
			if connect.CodeOf(err) != connect.CodeDeadlineExceeded || !strings.Contains(err.Error(), "the file system of "+link+" does not answer") {
				t.Error(err)
			}
		}()
	}
	looking.Wait()
	if most := int32(mostUncounted + mostOfOne); stuck.Load() > most {
		t.Errorf("%d looks are stuck, more than %d", stuck.Load(), most)
	}
	l.limit = time.Minute
	assert.Check(t, l.Do(t.Context(), filepath.Dir(link), func() error { return nil }), "beside the link")
}

func TestAFileSystemIsThatOfTheNearestMountPoint(t *testing.T) {
	points := map[string]bool{"/": true, "/srv": true, "/srv/a": true}
	for path, want := range map[string]string{"/srvother": "/", "/srv": "/srv", "/srv/b": "/srv", "/srv/a/x": "/srv/a", "/srv/a/b/c": "/srv/a", "/": "/"} {
		if got := mountOf(points, path); got != want {
			t.Error(path, got)
		}
	}
}

func TestWhatALinkOfProcLeadsToIsThere(t *testing.T) {
	found := at(t, &hostv1.LookUpPathsRequest{Paths: []string{"/proc/self/ns/net"}}).Paths
	if found[0].Failure != "" || found[0].RealPath != "/proc/self/ns/net" {
		t.Error(found[0])
	}
}

func TestAPathThatIsTooLongIsRefusedUnseen(t *testing.T) {
	err := New().Do(t.Context(), strings.Repeat("/a", unix.PathMax/2), func() error { return nil })
	assert.Check(t, is.ErrorIs(err, unix.ENAMETOOLONG))
}

func TestAWalkEndsWhereNothingIs(t *testing.T) {
	looks, ended := New(), false
	path := filepath.Join(t.TempDir(), "missing", "further")
	if err := looks.Do(t.Context(), path, func() error { ended = true; return nil }); err != nil || !ended {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Check(t, is.ErrorIs(looks.walk(cancelled, &look{}, "/"+path), context.Canceled))
}
