package worker

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/cache/contenthash"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/source/local"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func workerOfContexts(t *testing.T, limits ContextLimits) *Worker {
	return &Worker{contexts: &contexts{root: t.TempDir()}, limits: Limits{Context: limits}}
}

// sent makes a session send a directory, like a client with this shared key.
func sent(t *testing.T, w *Worker, dir, key string) (cache.ImmutableRef, error) {
	t.Helper()
	files, err := fsutil.NewFS(dir)
	assert.NilError(t, err)
	return sentFiles(t, w, files, key)
}

func sentFiles(t *testing.T, w *Worker, files fsutil.FS, key string) (cache.ImmutableRef, error) {
	t.Helper()
	return sentBy(t, w, filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": files}), key, &local.LocalIdentifier{Name: "context"})
}

// sentBy makes a session with this service send what a build wants.
func sentBy(t *testing.T, w *Worker, service session.Attachable, key string, wanted *local.LocalIdentifier) (cache.ImmutableRef, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	own, err := session.NewSession(ctx, key)
	assert.NilError(t, err)
	defer own.Close()
	own.Allow(service)
	sessions, err := session.NewManager()
	assert.NilError(t, err)
	go own.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
		here, there := net.Pipe()
		go sessions.HandleConn(ctx, there, meta)
		return here, nil
	})
	caller, err := sessions.Get(ctx, own.ID(), false)
	assert.NilError(t, err)
	return (&localInstance{worker: w, id: wanted, sessions: sessions}).receive(ctx, caller)
}

func TestPatternsAreSentToASession(t *testing.T) {
	w, dir := workerOfContexts(t, wide), t.TempDir()
	for _, name := range []string{"é a", "b", "b+", "c"} {
		write(t, dir, name, name)
	}
	files, err := fsutil.NewFS(dir)
	must(t, err)
	received, err := sentBy(t, w, filesync.NewFSSyncProvider(filesync.StaticDirSource{"die Dateien für b": files}), "", &local.LocalIdentifier{
		Name: "die Dateien für b", IncludePatterns: []string{"é a", "b*"}, ExcludePatterns: []string{"b"},
	})
	must(t, err)
	defer received.Release(context.Background())
	var names []string
	entries, err := os.ReadDir(received.(*ref).context.path)
	must(t, err)
	for _, each := range entries {
		names = append(names, each.Name())
	}
	if all := strings.Join(names, ", "); all != "b+, é a" {
		t.Errorf("received %s", all)
	}
}

// packets are what a client sends in place of its files.
type packets []*types.Packet

func (p packets) Register(server *grpc.Server)                    { filesync.RegisterFileSyncServer(server, p) }
func (packets) TarStream(filesync.FileSync_TarStreamServer) error { return nil }
func (p packets) DiffCopy(stream filesync.FileSync_DiffCopyServer) error {
	for _, each := range p {
		if err := stream.Send(each); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func TestASessionsEntriesEndOnce(t *testing.T) {
	w := workerOfContexts(t, wide)
	for name, after := range map[string]*types.Packet{"their end": {}, "another": {Stat: &types.Stat{Path: "file", Mode: 0o644}}, "one of another kind": {ID: 1}} {
		_, err := sentBy(t, w, packets{{}, after}, "", &local.LocalIdentifier{Name: "context"})
		assert.Check(t, is.ErrorContains(err, "after their end"), name)
	}
	nothingLeft(t, w)
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
}

// sumOf is the checksum of a context, which is released afterwards.
func sumOf(t *testing.T, w *Worker, dir, key string) digest.Digest {
	t.Helper()
	received, err := sent(t, w, dir, key)
	assert.NilError(t, err)
	defer received.Release(context.Background())
	sum, err := contenthash.Checksum(context.Background(), received, "/", contenthash.ChecksumOpts{}, nil)
	assert.NilError(t, err)
	return sum
}

func TestTheChecksumsOfAContextAreKeptAsLongAsItsFiles(t *testing.T) {
	w, dir := workerOfContexts(t, wide), t.TempDir()
	write(t, dir, "kept", "kept")
	write(t, dir, "changed", "before")
	sumOf(t, w, dir, "mine")
	// More of other builds than BuildKit's own cache can hold.
	for number := range 40 {
		_, err := contenthash.GetCacheContext(context.Background(), &content{id: fmt.Sprint("other-", number)})
		assert.NilError(t, err)
	}
	write(t, dir, "changed", "afterwards")
	if got, want := sumOf(t, w, dir, "mine"), sumOf(t, w, dir, "anew"); got != want {
		t.Errorf("the checksum is %s, of the same files anew %s", got, want)
	}
}

func TestOnlyContextsOfClientsThatComeBackAreKept(t *testing.T) {
	w, dir := workerOfContexts(t, wide), t.TempDir()
	sumOf(t, w, dir, "")
	if left, err := os.ReadDir(w.contexts.root); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	for number := range idleContexts + 3 {
		sumOf(t, w, dir, fmt.Sprint("client-", number))
	}
	if left, err := os.ReadDir(w.contexts.root); err != nil || len(left) != idleContexts {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestASessionSendsNoMoreThanTheLimits(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", strings.Repeat("a", 2000))
	write(t, dir, "b", strings.Repeat("b", 2000))
	for refusal, limits := range map[string]ContextLimits{
		"larger than 3000 bytes": {Bytes: 3000, Entries: 10},
		"more than 1 entries":    {Bytes: 1 << 20, Entries: 1},
	} {
		w := workerOfContexts(t, limits)
		if _, err := sent(t, w, dir, "mine"); err == nil || !strings.Contains(err.Error(), refusal) {
			t.Errorf("%v instead of %q", err, refusal)
		}
		if left, err := os.ReadDir(w.contexts.root); err != nil || len(left) != 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
}

// claimed are files of a client that sends whatever it likes.
type claimed []*types.Stat

func (c claimed) Walk(_ context.Context, _ string, each fs.WalkDirFunc) error {
	for _, stat := range c {
		if err := each(stat.Path, &fsutil.DirEntryInfo{Stat: stat}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (claimed) Open(string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("evil")), nil
}

func TestASessionDoesNotReplaceItsDirectory(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"a link": fs.ModeSymlink | 0o777, "a file": 0o644, "a pipe": fs.ModeNamedPipe | 0o644} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			w := workerOfContexts(t, wide)
			root := &types.Stat{Path: ".", Mode: uint32(mode)}
			if mode&fs.ModeSymlink != 0 {
				root.Linkname = outside
			}
			_, err := sentFiles(t, w, claimed{root, {Path: "written", Mode: 0o644, Size: 4}}, "")
			assert.Check(t, is.ErrorContains(err, "the directory itself"))
			for _, directory := range []string{outside, w.contexts.root} {
				if left, err := os.ReadDir(directory); err != nil || len(left) != 0 {
					t.Errorf("%s has %v, %v", directory, left, err)
				}
			}
		})
	}
}

func TestASessionDoesNotWriteThroughALinkThatItSentBefore(t *testing.T) {
	for name, entry := range map[string]*types.Stat{
		"a directory that is a device": {Path: "d", Mode: uint32(fs.ModeDir | fs.ModeDevice | 0o755)},
		"a directory that is a link":   {Path: "d", Mode: uint32(fs.ModeDir | fs.ModeSymlink | 0o755)},
		"the link":                     {Path: "d", Mode: uint32(fs.ModeSymlink | 0o777)},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			w := workerOfContexts(t, wide)
			link := &types.Stat{Path: "d", Mode: uint32(fs.ModeSymlink | 0o777), Linkname: outside}
			received, err := sentFiles(t, w, claimed{link}, "mine")
			assert.NilError(t, err)
			assert.NilError(t, received.Release(t.Context()))
			if entry.Mode == link.Mode {
				entry = link
			}
			if _, err := sentFiles(t, w, claimed{entry, {Path: "d/written", Mode: 0o644, Size: 4}}, "mine"); err == nil {
				t.Error("it is taken")
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

func TestASessionChangesNoFileThroughALink(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	assert.NilError(t, os.WriteFile(outside, nil, 0o600))
	unchanged := func() {
		t.Helper()
		info, err := os.Stat(outside)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if size, err := unix.Listxattr(outside, nil); err != nil || size != 0 {
			t.Errorf("%d bytes of attributes, %v", size, err)
		}
	}
	link := &types.Stat{Path: "d", Mode: uint32(fs.ModeSymlink | 0o777), Linkname: outside}
	withAttribute := link.Clone()
	withAttribute.Xattrs = map[string][]byte{"user.x": []byte("x")}
	w := workerOfContexts(t, wide)
	received, err := sentFiles(t, w, claimed{withAttribute}, "mine")
	assert.NilError(t, err)
	assert.NilError(t, received.Release(t.Context()))
	unchanged()
	device := &types.Stat{Path: "d", Mode: uint32(fs.ModeDevice)}
	through := &types.Stat{Path: "e", Mode: uint32(fs.ModeSetuid | 0o777), Linkname: "d"}
	if _, err := sentFiles(t, w, claimed{device, through}, "mine"); err == nil {
		t.Error("a hard link to a device is taken")
	}
	unchanged()
}

func TestATransferEntersDirectoriesAlone(t *testing.T) {
	directory := t.TempDir()
	assert.NilError(t, os.MkdirAll(filepath.Join(directory, "d", "e"), 0o700))
	assert.NilError(t, os.Symlink("d", filepath.Join(directory, "link")))
	for path, isAdmitted := range map[string]bool{"f": true, "d/e/f": true, "link/f": false, "link/e/f": false, "missing/f": false} {
		_, transfer := wide.bound(t.Context(), directory)
		assert.Check(t, transfer.admits(path, &types.Stat{Path: path, Mode: 0o644}) == isAdmitted, path)
	}
	write(t, directory, "file", "")
	for name, isAdmitted := range map[string]bool{"file": true, "link": false, "d": false, "link/e": false, "missing": false} {
		_, transfer := wide.bound(t.Context(), directory)
		assert.Check(t, transfer.admits("hard", &types.Stat{Path: "hard", Mode: 0o644, Linkname: name}) == isAdmitted, "a hard link to %s", name)
	}
}

func TestASessionsFilesCountOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", strings.Repeat("a", 2000))
	write(t, dir, "m", strings.Repeat("m", 2000))
	w := workerOfContexts(t, ContextLimits{Bytes: 4500, Entries: 3})
	sumOf(t, w, dir, "mine")
	for _, old := range []string{"a", "m"} {
		assert.NilError(t, os.Remove(filepath.Join(dir, old)))
	}
	// Old files go before and after the new ones.
	for _, name := range []string{"k", "x", "z"} {
		write(t, dir, name, strings.Repeat(name, 1400))
	}
	sumOf(t, w, dir, "mine")
	write(t, dir, "x", strings.Repeat("x", 2000))
	if _, err := sent(t, w, dir, "mine"); err == nil || !strings.Contains(err.Error(), "larger than 4500 bytes") {
		t.Errorf("%v instead of the limit's refusal", err)
	}
}
