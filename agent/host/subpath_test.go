package host_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// withBind adds a bind mount to an OCI configuration.
func withBind(t testing.TB, spec []byte, source, destination string) []byte {
	t.Helper()
	var config map[string]any
	assert.NilError(t, json.Unmarshal(spec, &config))
	config["mounts"] = append(config["mounts"].([]any), map[string]any{
		"destination": destination, "type": "bind", "source": source, "options": []string{"rbind", "rprivate"},
	})
	changed, err := json.Marshal(config)
	assert.NilError(t, err)
	return changed
}

func TestAPartOfAVolumeIsNeverOutsideOfIt(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	data, outside := h.volume(t, "shared"), t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(outside, "secret"), []byte("secret\n"), 0o600),
		os.Mkdir(filepath.Join(data, "part"), 0o755),
		os.WriteFile(filepath.Join(data, "part", "file"), []byte("inside\n"), 0o644),
		// Links that a container can put there.
		os.Symlink("part", filepath.Join(data, "inner")),
		os.Symlink(outside, filepath.Join(data, "absolute")),
		os.Symlink("../../../../../../../.."+outside, filepath.Join(data, "relative")),
		os.Symlink("absolute", filepath.Join(data, "indirect")),
	} {
		assert.NilError(t, err)
	}
	for _, link := range []string{"absolute", "relative", "indirect", "part/../absolute"} {
		source := data + "/" + link
		// As in Docker the launch fails, and so does reading the files.
		unlaunched := randomID()
		_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
			ContainerId: unlaunched, LayerDiffIds: []string{layer}, Mounts: []*hostv1.Mount{{Source: source, Destination: "/x"}},
		}))
		assert.Check(t, err, "create with %s", link)
		if _, err := h.stat(t, unlaunched, "/x/secret"); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("files with %s: %v", link, err)
		}
		_, err = h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
			ContainerId: randomID(), LayerDiffIds: []string{layer}, VolumeSeeds: []*hostv1.VolumeSeed{{VolumePath: source, Path: "/etc"}},
		}))
		assert.Check(t, connect.CodeOf(err) == connect.CodeInvalidArgument, "filling %s: %v", link, err)
		id := h.create(t, layer)
		request := sleeper(t, id, layer, noNetwork())
		request.OciSpec = withBind(t, request.OciSpec, source, "/x")
		if _, err = h.LaunchContainer(t.Context(), connect.NewRequest(request)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("launch with %s: %v", link, err)
		}
	}

	// A link that comes after the creation shows nothing either.
	id := randomID()
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
		ContainerId: id, LayerDiffIds: []string{layer}, Mounts: []*hostv1.Mount{{Source: data + "/inner", Destination: "/x"}},
	}))
	assert.NilError(t, err)
	if files := h.get(t, id, "/x"); files["x/file"] != "inside\n" {
		t.Errorf("a link inside of the volume shows %v", files)
	}
	assert.NilError(t, os.Remove(data+"/inner"))
	assert.NilError(t, os.Symlink(outside, data+"/inner"))
	eventually(t, "the first look is over", func() bool { return len(h.leftovers(t, id)) == 0 })
	if _, err := h.stat(t, id, "/x/secret"); err == nil {
		t.Error("a link out of the volume is followed")
	}
	entries, _ := os.ReadDir(outside)
	assert.Check(t, is.Len(entries, 1), "something was written outside")
	_, err = h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
	assert.Check(t, err)
}

func TestALinkThatChangesDuringALaunchShowsNothingOutside(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	data, outside := h.volume(t, "shared"), t.TempDir()
	for _, err := range []error{
		os.WriteFile(filepath.Join(outside, "file"), []byte("secret\n"), 0o644),
		os.Mkdir(filepath.Join(data, "part"), 0o755),
		os.WriteFile(filepath.Join(data, "part", "file"), []byte("inside\n"), 0o644),
		os.Symlink(outside, filepath.Join(data, "link")),
	} {
		assert.NilError(t, err)
	}
	stop := swapPartAndLink(data)
	launched, refused := 0, 0
	for range 12 {
		id := h.create(t, layer)
		request := sleeper(t, id, layer, noNetwork())
		request.OciSpec = withBind(t, ociSpec(t, "cat", "/x/file"), data+"/part", "/x")
		c, err := h.launch(t, request)
		if err != nil {
			assert.Assert(t, connect.CodeOf(err) == connect.CodeInvalidArgument, err)
			refused++
			continue
		}
		launched++
		c.start(t, 1)
		if output := c.output(t); output != "inside\n" {
			t.Errorf("it sees %q", output)
		}
	}
	stop()
	t.Logf("%d launched, %d refused", launched, refused)
}

// swapPartAndLink swaps `part` and `link` of a directory.
func swapPartAndLink(directory string) (stop func()) {
	return swap(directory+"/part", directory+"/link")
}

// swap swaps two files repeatedly, as another container with the volume could,
// until it is stopped.
func swap(one, other string) (stop func()) {
	over, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-over:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
			}
		}
	}()
	return func() {
		close(over)
		<-stopped
	}
}

// A mount point inside a volume is as much another container's to change as the
// part that is mounted there: what is looked at afterwards may be the part itself.
func TestAPartInsideItsOwnVolumeShowsNothingOutside(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	data, outside := h.volume(t, "shared"), t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(data, "part"), 0o755),
		os.Symlink(outside, filepath.Join(data, "link")),
		os.Mkdir(filepath.Join(data, "at"), 0o755),
		os.Symlink("part", filepath.Join(data, "at-link")),
	} {
		assert.NilError(t, err)
	}
	stopParts := swapPartAndLink(data)
	stopTargets := swap(filepath.Join(data, "at"), filepath.Join(data, "at-link"))
	launched, refused, launches := 0, 0, 60
	if testing.Short() {
		launches = 15
	}
	for range launches {
		id := h.create(t, layer)
		request := sleeper(t, id, layer, noNetwork())
		request.OciSpec = withBind(t, ociSpec(t, "cat", "/proc/self/mountinfo"), data, "/v")
		request.OciSpec = withBind(t, request.OciSpec, data+"/part", "/v/at")
		c, err := h.launch(t, request)
		if err != nil || c.Pid == 0 {
			refused++
			continue
		}
		launched++
		c.start(t, 1)
		for mount := range strings.Lines(c.output(t)) {
			if strings.HasSuffix(strings.Fields(mount)[3], filepath.Base(filepath.Dir(outside))+"/"+filepath.Base(outside)) {
				t.Errorf("it has mounted what is outside: %s", mount)
			}
		}
	}
	stopParts()
	stopTargets()
	t.Logf("%d launched, %d refused", launched, refused)
}
