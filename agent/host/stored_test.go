package host_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/hungfs"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// storedRequest addresses a container on the stored socket.
func storedRequest[T any](id string, message *T) *connect.Request[T] {
	request := connect.NewRequest(message)
	request.Header().Set("sockerless-container-id", id)
	return request
}

func (h *hostProcess) stat(t testing.TB, id, path string) (*agentv1.PathStat, error) {
	t.Helper()
	response, err := h.stored.ArchiveStat(t.Context(), storedRequest(id, &agentv1.ArchiveStatRequest{Path: path}))
	if err != nil {
		return nil, err
	}
	return response.Msg.Stat, nil
}

// get reads a path's tar: names to contents.
func (h *hostProcess) get(t testing.TB, id, path string) map[string]string {
	t.Helper()
	stream, err := h.stored.ArchiveGet(t.Context(), storedRequest(id, &agentv1.ArchiveGetRequest{Path: path}))
	assert.NilError(t, err)
	defer stream.Close()
	var content bytes.Buffer
	ended := false
	for stream.Receive() {
		content.Write(stream.Msg().GetChunk().GetData())
		ended = ended || stream.Msg().GetEnd() != nil
	}
	if !ended {
		t.Fatalf("get %s: %v", path, stream.Err())
	}
	files := map[string]string{}
	reader := tar.NewReader(&content)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		assert.NilError(t, err)
		body, _ := io.ReadAll(reader)
		files[header.Name] = string(body)
	}
}

// put writes one file into a directory.
func (h *hostProcess) put(t testing.TB, id, directory, name, content string) error {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	io.WriteString(w, content)
	w.Close()
	stream := h.stored.ArchivePut(t.Context())
	stream.RequestHeader().Set("sockerless-container-id", id)
	for _, request := range []*agentv1.ArchivePutRequest{
		{Message: &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{Path: directory}}},
		{Message: &agentv1.ArchivePutRequest_Chunk{Chunk: &agentv1.ArchiveChunk{Data: archive.Bytes()}}},
		{Message: &agentv1.ArchivePutRequest_End{End: &agentv1.ArchiveEnd{TotalBytes: uint64(archive.Len())}}},
	} {
		if stream.Send(request) != nil {
			break
		}
	}
	_, err := stream.CloseAndReceive()
	return err
}

// offersLog reports whether a client's connection would be accepted for a log.
func (h *hostProcess) offersLog(t testing.TB, id string) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := h.stored.Logs(ctx, storedRequest(id, &agentv1.LogsRequest{Stdout: true, HandOver: true}))
	assert.NilError(t, err)
	defer stream.Close()
	return stream.Receive() && stream.Msg().GetOffer() != nil
}

func TestTheLogOfAContainerThatHasEndedGoesToAClientsConnection(t *testing.T) {
	h := startHost(t)
	request := sleeper(t, h.create(t, h.unpackImage(t)), h.unpackImage(t), noNetwork())
	request.OciSpec = ociSpec(t, "sh", "-c", "yes | head -n 30000")
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	eventually(t, "the exit is recorded", func() bool { return h.onDisk(t, request.ContainerId).LastState != nil })
	h.release(t, request.ContainerId)
	assert.Check(t, h.offersLog(t, request.ContainerId), "its log goes to no client's connection")
}

// A damaged root record affects neither the log nor the state, and errors about
// the files name it.
func TestADamagedRecordOfFilesTakesNothingElse(t *testing.T) {
	h := startHost(t)
	request := sleeper(t, h.create(t, h.unpackImage(t)), h.unpackImage(t), noNetwork())
	request.OciSpec = ociSpec(t, "sh", "-c", "echo said")
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	id := request.ContainerId
	eventually(t, "the exit is recorded", func() bool { return h.onDisk(t, id).LastState != nil })
	h.release(t, id)
	record := filepath.Join(h.stateDir, "containers", id, "rootfs.json")
	whole, err := os.ReadFile(record)
	assert.NilError(t, err)
	os.WriteFile(record, whole[:len(whole)/2], 0o600)
	stream, err := h.stored.Logs(t.Context(), storedRequest(id, &agentv1.LogsRequest{Stdout: true}))
	assert.NilError(t, err)
	defer stream.Close()
	if !stream.Receive() || string(stream.Msg().GetChunk().GetData()) != "said\n" {
		t.Errorf("its log: %v, %v", stream.Msg(), stream.Err())
	}
	if found := h.onDisk(t, id); found.LastState == nil || found.Unfinished {
		t.Errorf("got %v", found)
	}
	_, err = h.stat(t, id, "/")
	assert.Check(t, is.ErrorContains(err, record))
	os.WriteFile(record, whole, 0o600)
	_, err = h.stat(t, id, "/")
	assert.Check(t, err)
}

func TestFilesOfAContainerBeforeAndAfterItRuns(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	volume := h.volume(t, "data")
	id := randomID()
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
		ContainerId: id, LayerDiffIds: []string{layer},
		Mounts: []*hostv1.Mount{{Source: volume, Destination: "/srv/data"}, {Source: volume, Destination: "/srv/frozen", ReadOnly: true}},
	}))
	assert.NilError(t, err)
	assert.NilError(t, h.put(t, id, "/etc", "greeting", "hello\n"))
	assert.NilError(t, h.put(t, id, "/srv/data", "in-volume", "kept\n"))
	if err := h.put(t, id, "/srv/frozen", "x", "x"); err == nil {
		t.Error("a read-only volume was written")
	}
	if content, _ := os.ReadFile(filepath.Join(volume, "in-volume")); string(content) != "kept\n" {
		t.Errorf("the volume holds %q", content)
	}
	eventually(t, "nothing stays mounted", func() bool { return len(h.leftovers(t, id)) == 0 })

	request := sleeper(t, id, layer, noNetwork())
	request.OciSpec = ociSpec(t, "sh", "-c", "cat /etc/greeting; echo changed >/etc/greeting; ls /srv/data")
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	if output := c.output(t); output != "hello\n" {
		t.Errorf("the container sees %q (a view's volume must not be in its root)", output)
	}
	// Ended, but not released: the shim is still there.
	eventually(t, "the exit is recorded", func() bool { return h.onDisk(t, id).LastState != nil })
	if files := h.get(t, id, "/etc/greeting"); files["greeting"] != "changed\n" {
		t.Errorf("%v", files)
	}
	h.release(t, id)
	if files := h.get(t, id, "/srv"); files["srv/data/in-volume"] != "kept\n" || files["srv/frozen/in-volume"] != "kept\n" {
		t.Errorf("%v", files)
	}
	if log := readLog(t, h.stored, id); log != "hello\n" {
		t.Errorf("log %q", log)
	}
	assert.Check(t, !h.offersLog(t, id), "a log of a line goes to a client's connection")
	_, err = h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
	assert.NilError(t, err)
	h.wantNothingLeft(t, id)
	if _, err := h.stat(t, id, "/"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("after removal: %v", err)
	}
}

// holdFiles keeps the files of a stopped container open until release is called.
func (h *hostProcess) holdFiles(t testing.TB, id string) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream := h.stored.ArchivePut(ctx)
	stream.RequestHeader().Set("sockerless-container-id", id)
	stream.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{Path: "/"}}})
	conn, err := stream.Conn()
	assert.NilError(t, err)
	if conn.ResponseHeader().Get("sockerless-archive-open") == "" {
		_, err := stream.CloseAndReceive()
		t.Fatal("the files are not open: ", err)
	}
	return func() {
		cancel()
		stream.CloseAndReceive() // Go's client takes notice of the end no sooner
	}
}

// mountNamespaces counts those that the host process keeps.
func (h *hostProcess) mountNamespaces(t testing.TB) (count int) {
	t.Helper()
	directory := fmt.Sprintf("/proc/%d/fd", h.command.Process.Pid)
	entries, err := os.ReadDir(directory)
	assert.NilError(t, err)
	for _, entry := range entries {
		if target, _ := os.Readlink(filepath.Join(directory, entry.Name())); strings.HasPrefix(target, "mnt:") {
			count++
		}
	}
	return count
}

func TestTheFilesOfAStoppedContainerTakeNoMountsOfTheMachine(t *testing.T) {
	h := startHost(t)
	nested := t.TempDir()
	assert.NilError(t, unix.Mount("tmpfs", nested, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { unix.Unmount(nested, unix.MNT_DETACH) })
	os.WriteFile(filepath.Join(nested, "file"), []byte("beneath"), 0o600)
	id := randomID()
	create := &hostv1.CreateContainerRequest{ContainerId: id, LayerDiffIds: []string{h.unpackImage(t)}}
	for i := range 5 {
		create.Mounts = append(create.Mounts, &hostv1.Mount{Source: "/", Destination: fmt.Sprintf("/machine%d", i), ReadOnly: true})
	}
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(create))
	assert.NilError(t, err)
	release := h.holdFiles(t, id)
	if found := mountsBelow(t, filepath.Dir(h.stateDir)); len(found) != 1 {
		t.Errorf("%d mounts more than the container's own", len(found)-1)
	}
	for i := range 5 {
		if files := h.get(t, id, fmt.Sprintf("/machine%d%s", i, nested)); files[filepath.Base(nested)+"/file"] != "beneath" {
			t.Errorf("a mount beneath a bind: %v", files)
		}
	}
	if err := h.put(t, id, "/machine4"+nested, "x", "x"); err == nil {
		t.Error("a mount beneath a read-only bind was written")
	}
	release()
	eventually(t, "nothing stays mounted", func() bool { return len(h.leftovers(t, id)) == 0 && h.mountNamespaces(t) == 0 })
}

// crowded mounts a file system with that many mounts in all.
func crowded(t testing.TB, mounts int) (directory string) {
	t.Helper()
	directory = t.TempDir()
	assert.NilError(t, errors.Join(
		unix.Mount("tmpfs", directory, "tmpfs", 0, "size=8m"), unix.Mount("", directory, "", unix.MS_PRIVATE, ""),
	))
	t.Cleanup(func() { unix.Unmount(directory, unix.MNT_DETACH) })
	source := filepath.Join(directory, "source")
	os.Mkdir(source, 0o755)
	for i := range mounts - 1 {
		target := filepath.Join(directory, fmt.Sprint(i))
		assert.NilError(t, errors.Join(os.Mkdir(target, 0o755), unix.Mount(source, target, "", unix.MS_BIND, "")))
	}
	return directory
}

// A mount is made at its mount point, which stays in the container's own layer.
func TestMountsOfAViewAreCountedBeforeTheyAreMade(t *testing.T) {
	h := startHost(t)
	const mounts = 1000
	source, layer := crowded(t, mounts), h.unpackImage(t)
	create := func(binds int) string {
		id := randomID()
		request := &hostv1.CreateContainerRequest{ContainerId: id, LayerDiffIds: []string{layer}}
		for i := range binds {
			request.Mounts = append(request.Mounts, &hostv1.Mount{Source: source, Destination: fmt.Sprintf("/crowd/%d", i)})
		}
		_, err := h.CreateContainer(t.Context(), connect.NewRequest(request))
		assert.NilError(t, err)
		t.Cleanup(func() {
			h.RemoveContainer(context.Background(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
		})
		return id
	}
	wantRefused := func(id string, most int) {
		t.Helper()
		if _, err := h.stat(t, id, "/"); connect.CodeOf(err) != connect.CodeResourceExhausted {
			t.Errorf("got %v", err)
		}
		made, err := os.ReadDir(filepath.Join(h.stateDir, "containers", id, "upper", "crowd"))
		if err != nil || len(made) > most {
			t.Errorf("%d trees of %d mounts, %v", len(made), mounts, err)
		}
	}
	wantRefused(create(60), 25)
	first, second := create(24), create(24)
	release := h.holdFiles(t, first)
	wantRefused(second, 13)
	_, err := h.stat(t, create(0), "/")
	assert.Check(t, err, "one of few mounts beside it")
	release()
	eventually(t, "there is room for the second", func() bool { _, err := h.stat(t, second, "/"); return err == nil })
	eventually(t, "nothing stays mounted", func() bool { return h.mountNamespaces(t) == 0 })
}

// A writer may write what a repeated creation would overwrite; a reader leaves the
// rest of the copy to it.
func TestASeedingThatWasBrokenOffIsForgottenByWhoWritesToAStoppedContainer(t *testing.T) {
	h := startHost(t)
	volume := h.volume(t, "half")
	id := randomID()
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
		ContainerId: id, LayerDiffIds: []string{h.unpackImage(t)}, Mounts: []*hostv1.Mount{{Source: volume, Destination: "/data"}},
	}))
	assert.NilError(t, err)
	marker := filepath.Join(filepath.Dir(volume), "._data.seeding")
	assert.NilError(t, os.WriteFile(marker, []byte(randomID()), 0o600))
	h.get(t, id, "/data")
	h.kill(t)
	h.start(t)
	_, err = h.stat(t, id, "/data")
	assert.NilError(t, err)
	_, err = os.Lstat(marker)
	assert.Check(t, err, "it is forgotten by who reads")
	assert.NilError(t, h.put(t, id, "/data", "file", "mine"))
	_, err = os.Lstat(marker)
	assert.Check(t, is.ErrorIs(err, os.ErrNotExist), "it is kept beside what was written")
}

// hang mounts a file system that answers nothing.
func hang(t testing.TB) (directory string) {
	t.Helper()
	directory = t.TempDir()
	hungfs.Mount(t, directory)
	return directory
}

func TestABindThatDoesNotAnswerHoldsUpNothingElseOfItsContainer(t *testing.T) {
	h := startHost(t)
	hung := hang(t)
	layer := h.unpackImage(t)
	for _, source := range []string{hung, filepath.Join(hung, "x")} {
		id := randomID()
		_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
			ContainerId: id, LayerDiffIds: []string{layer}, Mounts: []*hostv1.Mount{{Source: source, Destination: "/data"}},
		}))
		assert.NilError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
		defer cancel()
		_, err = h.stored.ArchiveStat(ctx, storedRequest(id, &agentv1.ArchiveStatRequest{Path: "/etc"}))
		assert.Check(t, is.ErrorContains(err, "the file system of "+source+" does not answer"))
		_, err = h.RemoveContainer(ctx, connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
		assert.Check(t, err)
		h.wantNothingLeft(t, id)
	}
}

func TestAViewIsUnmountedWhoseVolumesCannotBeReleased(t *testing.T) {
	h := startHost(t)
	id := h.create(t, h.unpackImage(t))
	release := h.holdFiles(t, id)
	held := filepath.Join(h.runDir, "volumes")
	assert.NilError(t, os.Rename(held, held+"-away"))
	release()
	eventually(t, "nothing stays mounted", func() bool { return len(h.leftovers(t, id)) == 0 && h.mountNamespaces(t) == 0 })
	assert.NilError(t, os.Rename(held+"-away", held))
}

// A look that its client has left may still have an image mounted.
func TestAViewsImagesAreMountedBesideThoseOfALateLook(t *testing.T) {
	h := startHost(t)
	layer, id := h.unpackImage(t), randomID()
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
		ContainerId: id, LayerDiffIds: []string{layer}, Mounts: []*hostv1.Mount{{LayerDiffIds: []string{layer}, Destination: "/image"}},
	}))
	assert.NilError(t, err)
	late := filepath.Join(h.runDir, "stored", id[:16])
	assert.NilError(t, errors.Join(os.MkdirAll(late, 0o700), unix.Mount("tmpfs", late, "tmpfs", 0, "size=1m")))
	_, err = h.stat(t, id, "/image/etc")
	assert.Check(t, err)
	assert.Check(t, errors.Join(unix.Unmount(late, 0), os.Remove(late)), "it was unmounted for it")
	eventually(t, "nothing stays mounted", func() bool { return len(h.leftovers(t, id)) == 0 })
}

// Beneath a bind may be a file system that does not answer, and the next bind's
// destination in that.
func TestADestinationThatDoesNotAnswerHoldsUpNoOtherContainersBinds(t *testing.T) {
	h := startHost(t)
	layer, source, hung := h.unpackImage(t), t.TempDir(), hang(t)
	create := func(mounts ...*hostv1.Mount) string {
		id := randomID()
		_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
			ContainerId: id, LayerDiffIds: []string{layer}, Mounts: mounts,
		}))
		assert.NilError(t, err)
		t.Cleanup(func() {
			h.RemoveContainer(context.Background(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
		})
		return id
	}
	const looks = 20 // more than may be stuck at one file system
	failed := make(chan error, looks)
	for range looks {
		id := create(&hostv1.Mount{Source: filepath.Dir(hung), Destination: "/data"},
			&hostv1.Mount{Source: source, Destination: filepath.Join("/data", filepath.Base(hung), "x")})
		go func() {
			_, err := h.stored.ArchiveStat(t.Context(), storedRequest(id, &agentv1.ArchiveStatRequest{Path: "/etc"}))
			failed <- err
		}()
	}
	for range looks {
		if err := <-failed; connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Errorf("got %v", err)
		}
	}
	id := create(&hostv1.Mount{Source: source, Destination: "/data"})
	_, err := h.stat(t, id, "/data")
	assert.Check(t, err)
}

func TestAMountsDestinationStaysInsideTheContainer(t *testing.T) {
	h := startHost(t)
	outside := t.TempDir()
	layer := h.unpackImage(t, tar.Header{Name: "escape", Typeflag: tar.TypeSymlink, Linkname: "../../../../../../" + outside})
	id := randomID()
	source := t.TempDir()
	os.WriteFile(filepath.Join(source, "secret"), []byte("x"), 0o600)
	file := filepath.Join(source, "secret")
	_, err := h.CreateContainer(t.Context(), connect.NewRequest(&hostv1.CreateContainerRequest{
		ContainerId: id, LayerDiffIds: []string{layer},
		Mounts: []*hostv1.Mount{{Source: source, Destination: "/escape/dir"}, {Source: file, Destination: "/deep/er/file"}},
	}))
	assert.NilError(t, err)
	if stat, err := h.stat(t, id, "/escape/dir/secret"); err != nil || stat.Size != 1 {
		t.Errorf("%v, %v", stat, err)
	}
	if stat, err := h.stat(t, id, "/deep/er/file"); err != nil || stat.Size != 1 {
		t.Errorf("%v, %v", stat, err)
	}
	entries, _ := os.ReadDir(outside)
	assert.Check(t, is.Len(entries, 0), "outside")
	h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
}

func TestFilesOfARunningContainerAreItsShims(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	h.mustLaunch(t, sleeper(t, id, layer, noNetwork())).start(t, 1)
	if _, err := h.stat(t, id, "/"); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("running: %v", err)
	}
	if _, err := h.stat(t, "", "/"); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("no ID: %v", err)
	}
	if _, err := h.stat(t, "../../etc", "/"); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("not an ID: %v", err)
	}
}

func TestALaunchTakesOverWhatIsBeingLookedAt(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	release := h.holdFiles(t, id)
	c := h.mustLaunch(t, sleeper(t, id, layer, noNetwork()))
	c.start(t, 1)
	release()
	eventually(t, "the view is gone", func() bool { return h.mountNamespaces(t) == 0 })
	assert.Check(t, is.Len(mountsBelow(t, filepath.Join(h.stateDir, "containers", id)), 1), "the container's root is not mounted any more")
	h.release(t, id)
	h.wantNothingLeft(t, id)
}

func TestNewVolumesAreFilledFromTheImage(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t,
		tar.Header{Name: "data/", Typeflag: tar.TypeDir, Mode: 0o2750, Uid: 1000, Gid: 100},
		tar.Header{Name: "data/file", Linkname: "content", Mode: 0o4755, Uid: 7},
		tar.Header{Name: "data/hard", Typeflag: tar.TypeLink, Linkname: "data/file"},
		tar.Header{Name: "data/sub/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "data/sub/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
	)
	volume := func(name string) string {
		response, err := h.CreateVolume(t.Context(), connect.NewRequest(&hostv1.CreateVolumeRequest{Name: name, Driver: "local"}))
		assert.NilError(t, err)
		return response.Msg.Path
	}
	fresh, used, absent := volume("fresh"), volume("used"), volume("absent")
	os.WriteFile(filepath.Join(used, "mine"), nil, 0o600)
	h.create(t, layer, &hostv1.VolumeSeed{VolumePath: fresh, Path: "/data"}, &hostv1.VolumeSeed{VolumePath: used, Path: "/data"},
		&hostv1.VolumeSeed{VolumePath: absent, Path: "/no/such"})

	root, file, hard := stat(t, fresh), stat(t, fresh+"/file"), stat(t, fresh+"/hard")
	if root.Mode&0o7777 != 0o2750 || root.Uid != 1000 || root.Gid != 100 {
		t.Errorf("root: %o %d:%d", root.Mode, root.Uid, root.Gid)
	}
	if file.Mode&0o7777 != 0o4755 || file.Uid != 7 || file.Size != 7 || hard.Ino != file.Ino {
		t.Errorf("file: %+v, hard: %+v", file, hard)
	}
	if target, _ := os.Readlink(fresh + "/sub/link"); target != "/etc/passwd" {
		t.Errorf("link: %q", target)
	}
	for dir, want := range map[string]string{used: "mine", absent: ""} {
		entries, _ := os.ReadDir(dir)
		names := []string{}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		assert.Check(t, strings.Join(names, " ") == want, "%s: %v", dir, names)
	}
	for range 2 {
		_, err := h.RemoveVolume(t.Context(), connect.NewRequest(&hostv1.RemoveVolumeRequest{Name: "fresh"}))
		assert.Check(t, err)
	}
	if _, err := os.Lstat(fresh); err == nil {
		t.Error("the volume is left")
	}
	if _, err := h.CreateVolume(t.Context(), connect.NewRequest(&hostv1.CreateVolumeRequest{Name: "../x", Driver: "local"})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a bad name: %v", err)
	}
}

func stat(t testing.TB, path string) syscall.Stat_t {
	t.Helper()
	var stat syscall.Stat_t
	assert.Check(t, syscall.Lstat(path, &stat))
	return stat
}
