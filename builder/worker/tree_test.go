package worker

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	bkworker "github.com/moby/buildkit/worker"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
)

// packed is a tar of empty entries: a directory's name ends in a slash, a link's is followed by its target.
func packed(t *testing.T, entries ...string) []byte {
	t.Helper()
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	for _, each := range entries {
		header := &tar.Header{Name: each, Typeflag: tar.TypeReg, Mode: 0o644}
		if name, target, isLink := strings.Cut(each, " -> "); isLink {
			header = &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}
		} else if strings.HasSuffix(each, "/") {
			header.Typeflag, header.Mode = tar.TypeDir, 0o755
		}
		must(t, archive.WriteHeader(header))
	}
	must(t, archive.Close())
	return content.Bytes()
}

// questions collects the paths of which each question to an agent asks the entries.
func questions(server *backendtest.Backend) *[]string {
	asked := &[]string{}
	server.Before = func(procedure string) {
		if paths, ok := strings.CutPrefix(procedure, "ArchiveGet of "); ok {
			*asked = append(*asked, paths)
		}
	}
	return asked
}

func TestACopyAsksForAllEntriesOfADepthAtOnce(t *testing.T) {
	w, server := workerOf(t)
	server.Archive = packed(t, "/", "/app/", "/app/a", "/app/d/", "/app/d/x", "/app/d/y", "/app/modules/", "/app/modules/large")
	asked := questions(server)
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c", "d/x", "d/z", "e/f"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		write(t, dir, name, "")
	}
	context := bkworker.NewWorkerRefResult(w.contextRef("context", &contextDir{path: dir, isBorrowed: true}), w)
	copies := func(dest string) *fileOp {
		return &fileOp{worker: w, actions: []*pb.FileAction{
			{SecondaryInput: 0, Action: &pb.FileAction_Copy{Copy: &pb.FileActionCopy{Src: "/", Dest: dest, DirCopyContents: true}}},
		}}
	}
	for dest, want := range map[string][]string{
		"/app":  {"/ /app", "/app/a /app/b /app/c /app/d /app/e", "/app/d/x /app/d/z"},
		"/none": {"/ /none"},
	} {
		*asked = nil
		skeleton := newTree(w, "image", true)
		must(t, copies(dest).show(t.Context(), skeleton, []solver.Result{context}))
		if !slices.Equal(*asked, want) {
			t.Errorf("a copy to %s asked %q", dest, *asked)
		}
		must(t, skeleton.close())
	}
}

func TestWhatIsBehindALinkIsLearnedWhereItLeads(t *testing.T) {
	w, server := workerOf(t)
	server.Archive = packed(t, "/", "/link -> real", "/link/file", "/real/", "/real/file", "/plain")
	asked := questions(server)
	skeleton := newTree(w, "image", true)
	defer skeleton.close()
	for _, name := range []string{"/link/file", "/link/file", "/plain/file", "/plain/file", "/gone/file", "/gone/file"} {
		at, _, err := skeleton.lookAt(t.Context(), name)
		if want := map[string]string{"/link/file": "/real/file"}[name]; at != want {
			t.Errorf("%s is at %q: %v", name, at, err)
		}
	}
	if want := []string{"/ /link /link/file", "/real /real/file", "/plain /plain/file", "/gone /gone/file"}; !slices.Equal(*asked, want) {
		t.Errorf("asked %q", *asked)
	}
}

func TestManyEntriesAreAskedForInParts(t *testing.T) {
	w, server := workerOf(t)
	server.Archive = packed(t, "/")
	asked := questions(server)
	skeleton := newTree(w, "image", true)
	defer skeleton.close()
	var names []string
	for at := range 2 * maxAsked {
		names = append(names, fmt.Sprint("/", at))
	}
	must(t, skeleton.lookAll(t.Context(), names))
	if len(*asked) != 3 {
		t.Errorf("asked %d times", len(*asked))
	}
}

func TestADirectoryThatIsFetchedSetsNoTimesOfOthers(t *testing.T) {
	w, server := workerOf(t)
	server.Archive = packed(t, "/", "/a/", "/a/b/", "/ab/")
	files := newTree(w, "image", false)
	defer files.close()
	must(t, files.fetch(t.Context(), "/ab"))
	set, unset := time.Unix(7, 0), time.Unix(0, 0)
	for _, name := range []string{".", "a", "ab"} {
		if name == "a" {
			must(t, files.lookAll(t.Context(), []string{"/a"}))
		}
		must(t, files.root.Chtimes(name, set, set))
	}
	must(t, files.fetch(t.Context(), "/a/b"))
	for name, want := range map[string]time.Time{".": unset, "a": unset, "a/b": unset, "ab": set} {
		info, err := files.root.Stat(name)
		must(t, err)
		assert.Check(t, info.ModTime().Equal(want), "%s: %s", name, info.ModTime())
	}
}

func TestAFileThatIsFetchedLeavesItsDirectoriesTheirTimes(t *testing.T) {
	w, server := workerOf(t)
	server.Archive = packed(t, "/", "/a/", "/a/b/", "/a/b/file")
	files := newTree(w, "image", false)
	defer files.close()
	must(t, files.lookAll(t.Context(), []string{"/a/b/file"}))
	server.Archive = packed(t, "file")
	must(t, files.fetch(t.Context(), "/a/b/file"))
	for _, name := range []string{".", "a", "a/b", "a/b/file"} {
		info, err := files.root.Stat(name)
		must(t, err)
		assert.Check(t, info.ModTime().Equal(time.Unix(0, 0)), "%s: %s", name, info.ModTime())
	}
}

func TestAFileIsEmptyInASkeletonAlone(t *testing.T) {
	w, server := workerOf(t)
	server.Archive = packed(t, "/", "/etc/", "/etc/passwd")
	files := newTree(w, "image", false)
	defer files.close()
	must(t, files.lookAll(t.Context(), []string{"/etc/passwd"}))
	if _, err := files.root.Lstat("etc/passwd"); !os.IsNotExist(err) {
		t.Errorf("it is there without its content: %v", err)
	}
	server.Archive = packed(t, "passwd")
	if info, err := files.look(t.Context(), "/etc/passwd"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
	if at, _, err := files.lookAt(t.Context(), "/etc/passwd/x"); !os.IsNotExist(err) {
		t.Errorf("%s, %v", at, err)
	}
}

func TestAnArchiveThatIsAddedAsksForManyEntriesAtOnce(t *testing.T) {
	w, server := workerOf(t)
	w.limits.Context = wide
	server.Archive = packed(t, "/", "/to/", "/to/d/", "/to/d/0", "/to/d/1", "/to/link -> d")
	asked := questions(server)
	skeleton := newTree(w, "image", true)
	defer skeleton.close()
	entries := []string{"d/", "link/x"}
	for at := range 50 {
		entries = append(entries, fmt.Sprint("d/", at))
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	must(t, os.WriteFile(file, packed(t, entries...), 0o600))
	if isArchive, err := w.showArchive(t.Context(), skeleton, file, "a.tar", "/to"); !isArchive || err != nil {
		t.Fatal(isArchive, err)
	}
	// The path, all entries, and what is behind the link.
	if len(*asked) != 3 || (*asked)[2] != "/to/d/x" {
		t.Errorf("asked %d times: %q", len(*asked), *asked)
	}
	_, err := skeleton.root.Lstat("to/d/1")
	assert.Check(t, err)
}

// Protobuf has no such strings: a question with one is never sent.
func TestNamesThatAreNoUTF8AreNotAskedFor(t *testing.T) {
	w, server := workerOf(t)
	w.limits.Context = wide
	const latin = "caf\xe9"
	server.Archive = packed(t, "/", "/to/", "/to/a", "/to/"+latin+" -> /a", "/to/there/", "/to/there/"+latin)
	asked := questions(server)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	skeleton := newTree(w, "image", true)
	defer skeleton.close()
	must(t, skeleton.lookAll(ctx, []string{"/to/" + latin, "/to/a", "/to/" + latin + "/b"}))
	if want := []string{"/ /to /to/a"}; !slices.Equal(*asked, want) {
		t.Errorf("asked %q", *asked)
	}
	_, err := skeleton.look(ctx, "/to/"+latin+"/b")
	assert.Check(t, is.ErrorIs(err, fs.ErrNotExist))
	file := filepath.Join(t.TempDir(), "a.tar")
	must(t, os.WriteFile(file, packed(t, latin, latin+".d/", latin+".d/c", "d"), 0o600))
	if isArchive, err := w.showArchive(ctx, skeleton, file, "a.tar", "/to"); !isArchive || err != nil {
		t.Error(isArchive, err)
	}
	files := newTree(w, "image", false)
	defer files.close()
	must(t, files.fetch(ctx, "/to/there/"+latin))
	server.Archive = packed(t, "there/", "there/"+latin)
	must(t, files.fetch(ctx, "/to/there"))
	_, err = files.root.Lstat("to/there/" + latin)
	assert.Check(t, err, "it is missing with its directory too")
}

func TestAnEntryOfAnySizeIsCheckedAtOnce(t *testing.T) {
	w, _ := workerOf(t)
	for size, isRefused := range map[int64]bool{maxCollectedBytes - 2: false, maxCollectedBytes: true, math.MaxInt64: true} {
		skeleton := newTree(w, "", true)
		met := &meeting{
			skeleton: skeleton, dest: "/", isThere: map[uint64]bool{},
			count: &unpacking{limits: ContextLimits{Bytes: maxCollectedBytes - 1, Entries: 10}, what: "the archive"},
		}
		if err := met.collect(t.Context(), &tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: size}); (err != nil) != isRefused {
			t.Errorf("%d bytes: %v", size, err)
		}
		must(t, skeleton.close())
	}
}
