package host_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

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
	if err != nil {
		t.Fatal(err)
	}
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
		if err != nil {
			t.Fatal(err)
		}
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
	if err != nil {
		t.Fatal(err)
	}
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
	if !h.offersLog(t, request.ContainerId) {
		t.Error("its log goes to no client's connection")
	}
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
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(record, whole[:len(whole)/2], 0o600)
	stream, err := h.stored.Logs(t.Context(), storedRequest(id, &agentv1.LogsRequest{Stdout: true}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || string(stream.Msg().GetChunk().GetData()) != "said\n" {
		t.Errorf("its log: %v, %v", stream.Msg(), stream.Err())
	}
	if found := h.onDisk(t, id); found.LastState == nil || found.Unfinished {
		t.Errorf("got %v", found)
	}
	if _, err := h.stat(t, id, "/"); err == nil || !strings.Contains(err.Error(), record) {
		t.Errorf("got %v", err)
	}
	os.WriteFile(record, whole, 0o600)
	if _, err := h.stat(t, id, "/"); err != nil {
		t.Error(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	if err := h.put(t, id, "/etc", "greeting", "hello\n"); err != nil {
		t.Fatal(err)
	}
	if err := h.put(t, id, "/srv/data", "in-volume", "kept\n"); err != nil {
		t.Fatal(err)
	}
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
	if h.offersLog(t, id) {
		t.Error("a log of a line goes to a client's connection")
	}
	if _, err := h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id})); err != nil {
		t.Fatal(err)
	}
	h.wantNothingLeft(t, id)
	if _, err := h.stat(t, id, "/"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("after removal: %v", err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	if stat, err := h.stat(t, id, "/escape/dir/secret"); err != nil || stat.Size != 1 {
		t.Errorf("%v, %v", stat, err)
	}
	if stat, err := h.stat(t, id, "/deep/er/file"); err != nil || stat.Size != 1 {
		t.Errorf("%v, %v", stat, err)
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("outside: %v", entries)
	}
	h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
}

func TestFilesOfARunningContainerAreItsShims(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	id := h.create(t, layer)
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
	layer := h.unpackImage(t)
	id := h.create(t, layer)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := h.stored.ArchivePut(ctx)
	stream.RequestHeader().Set("sockerless-container-id", id)
	stream.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{Path: "/"}}})
	eventually(t, "the files are mounted", func() bool { return len(h.leftovers(t, id)) > 0 })
	c := h.mustLaunch(t, sleeper(t, id, layer, noNetwork()))
	c.start(t, 1)
	cancel()
	stream.CloseAndReceive() // Go's client takes notice of the end no sooner
	eventually(t, "the view is gone", func() bool {
		_, err := os.Lstat(filepath.Join(h.runDir, "stored", id[:16]))
		return err != nil
	})
	if len(mountsBelow(t, filepath.Join(h.stateDir, "containers", id))) != 1 {
		t.Error("the container's root is not mounted any more")
	}
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
		if err != nil {
			t.Fatal(err)
		}
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
		if strings.Join(names, " ") != want {
			t.Errorf("%s: %v", dir, names)
		}
	}
	for range 2 {
		if _, err := h.RemoveVolume(t.Context(), connect.NewRequest(&hostv1.RemoveVolumeRequest{Name: "fresh"})); err != nil {
			t.Error(err)
		}
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
	if err := syscall.Lstat(path, &stat); err != nil {
		t.Error(err)
	}
	return stat
}
