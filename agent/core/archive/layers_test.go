package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// newLayers makes an empty writable layer over two layers of an image.
func newLayers(t testing.TB) Layers {
	t.Helper()
	dir := t.TempDir()
	l := Layers{Upper: filepath.Join(dir, "upper"), Lower: []string{filepath.Join(dir, "top"), filepath.Join(dir, "bottom")}}
	for _, name := range append([]string{l.Upper}, l.Lower...) {
		must(t, os.Mkdir(name, 0o755))
	}
	return l
}

func whiteout(t testing.TB, dir, name string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
	if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR, 0); err != nil {
		t.Skip("needs CAP_MKNOD: ", err)
	}
}

func hide(t testing.TB, dir, name string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	if err := unix.Setxattr(filepath.Join(dir, name), opaque, []byte("y"), 0); err != nil {
		t.Skip("needs trusted extended attributes: ", err)
	}
}

func changesOf(t testing.TB, l Layers) []string {
	t.Helper()
	var told []string
	must(t, l.Changes(t.Context(), func(change Change) error {
		told = append(told, string("?CAD"[change.Kind])+" "+change.Path)
		return nil
	}))
	return told
}

func wantChanges(t testing.TB, l Layers, want ...string) {
	t.Helper()
	if told := changesOf(t, l); !slices.Equal(told, want) {
		t.Errorf("changes are %q, want %q", told, want)
	}
}

func TestChangesNameWhatDiffersAndTheDirectoriesAbove(t *testing.T) {
	l := newLayers(t)
	plant(t, l.Lower[1], [2]string{"etc/passwd", "root"}, [2]string{"var/log/old", "x"}, [2]string{"usr/bin/tool", "x"})
	plant(t, l.Lower[0], [2]string{"opt/app/a", "a"}, [2]string{"opt/app/b", "b"})
	plant(t, l.Upper, [2]string{"etc/passwd", "changed"}, [2]string{"new/deep/file", "x"}, [2]string{"usr/bin/", ""})
	whiteout(t, l.Upper, "var/log/old")
	whiteout(t, l.Upper, "opt/app")
	wantChanges(t, l, "C /etc", "C /etc/passwd", "A /new", "A /new/deep", "A /new/deep/file", "C /opt", "D /opt/app", "C /var", "C /var/log", "D /var/log/old")
}

func TestAnOpaqueDirectoryHasLostWhatItDoesNotHave(t *testing.T) {
	l := newLayers(t)
	plant(t, l.Lower[1], [2]string{"d/one", "1"}, [2]string{"d/two", "2"}, [2]string{"d/sub/x", "x"})
	plant(t, l.Lower[0], [2]string{"d/three", "3"})
	whiteout(t, l.Lower[0], "d/two") // gone in the image already
	hide(t, l.Upper, "d")
	plant(t, l.Upper, [2]string{"d/one", "changed"}, [2]string{"d/four", "4"})
	wantChanges(t, l, "C /d", "A /d/four", "C /d/one", "D /d/sub", "D /d/three")
}

func TestAFileThatWasOnlyCopiedUpIsUnchanged(t *testing.T) {
	l := newLayers(t)
	plant(t, l.Lower[0], [2]string{"same", "1"}, [2]string{"touched", "1"}, [2]string{"mode", "1"})
	plant(t, l.Upper, [2]string{"same", "1"}, [2]string{"touched", "1"}, [2]string{"mode", "1"})
	then := time.Unix(1700000000, 123456789)
	for _, name := range []string{"same", "mode"} {
		must(t, os.Chtimes(filepath.Join(l.Lower[0], name), then, then))
		must(t, os.Chtimes(filepath.Join(l.Upper, name), then, then))
	}
	// A file from an archive has whole seconds only.
	must(t, os.Chtimes(filepath.Join(l.Upper, "same"), then, then.Truncate(time.Second)))
	must(t, os.Chtimes(filepath.Join(l.Lower[0], "touched"), then, then))
	must(t, os.Chmod(filepath.Join(l.Upper, "mode"), 0o600))
	wantChanges(t, l, "C /mode", "C /touched")
}

func TestWhatAContainerIsGivenIsNoChange(t *testing.T) {
	l := newLayers(t)
	plant(t, l.Upper, [2]string{"etc/hosts", ""}, [2]string{"etc/resolv.conf", ""}, [2]string{"dev/", ""}, [2]string{"proc/", ""}, [2]string{"sys/", ""})
	wantChanges(t, l)
	plant(t, l.Upper, [2]string{"etc/mine", "x"})
	wantChanges(t, l, "C /etc", "A /etc/mine")
}

// entriesOf reads a tar: names to contents, "->x" for links to x, "" for the rest.
func entriesOf(t testing.TB, stream *bytes.Buffer) map[string]string {
	t.Helper()
	found := map[string]string{}
	reader := tar.NewReader(stream)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		must(t, err)
		body, err := io.ReadAll(reader)
		must(t, err)
		if header.Linkname != "" {
			body = []byte("->" + header.Linkname)
		}
		if _, twice := found[header.Name]; twice {
			t.Errorf("%s is there twice", header.Name)
		}
		found[header.Name] = string(body)
	}
}

// laidOver adds the files that every container gets to the image.
func laidOver(t *testing.T, l Layers) (Layers, string) {
	t.Helper()
	directory := t.TempDir()
	for range 2 {
		must(t, LayOver(directory, l.Lower))
	}
	return Layers{l.Upper, append([]string{directory}, l.Lower...)}, directory
}

func TestWhatIsLaidOverAnImageIsAsItsDirectoriesAre(t *testing.T) {
	l := newLayers(t)
	must(t, os.Mkdir(filepath.Join(l.Lower[0], "etc"), 0o700))
	must(t, os.Chown(filepath.Join(l.Lower[0], "etc"), 7, 8))
	must(t, os.Chtimes(filepath.Join(l.Lower[0], "etc"), time.Unix(1, 0), time.Unix(1, 0)))
	must(t, os.Mkdir(filepath.Join(l.Lower[1], "etc"), 0o755))
	plant(t, l.Lower[1], [2]string{"etc/passwd", "root"}, [2]string{"etc/hosts/in-a-directory", "x"}, [2]string{"dev/", ""}, [2]string{"dev/shm", "a file"})
	l, init := laidOver(t, l)
	var etc unix.Stat_t
	must(t, unix.Lstat(filepath.Join(init, "etc"), &etc))
	if etc.Mode&0o7777 != 0o700 || etc.Uid != 7 || etc.Gid != 8 || etc.Mtim.Sec != 1 {
		t.Errorf("/etc has mode %o, belongs to %d:%d and is of %d", etc.Mode, etc.Uid, etc.Gid, etc.Mtim.Sec)
	}
	var stream bytes.Buffer
	must(t, l.WriteTar(t.Context(), &stream))
	want := map[string]string{
		".dockerenv": "", "dev/": "", "dev/console": "", "dev/pts/": "", "dev/shm/": "", "etc/": "", "etc/hostname": "",
		"etc/hosts/": "", "etc/hosts/in-a-directory": "x", "etc/mtab": "->/proc/mounts", "etc/passwd": "root", "etc/resolv.conf": "",
		"proc/": "", "sys/": "",
	}
	if found := entriesOf(t, &stream); !maps.Equal(found, want) {
		t.Errorf("the tar holds %q, want %q", found, want)
	}
	wantChanges(t, l)
}

func TestWhatIsLaidOverAnImageHidesItsLinks(t *testing.T) {
	outside := t.TempDir()
	for _, name := range []string{"dev", "dev/pts", "dev/console", "etc", "etc/hosts", "etc/mtab", "proc", "sys", ".dockerenv"} {
		for _, target := range []string{outside, "../../../../../../../.." + outside, "/nowhere"} {
			l := newLayers(t)
			must(t, os.MkdirAll(filepath.Join(l.Lower[0], filepath.Dir(name)), 0o755))
			must(t, os.Symlink(target, filepath.Join(l.Lower[0], name)))
			plant(t, l.Lower[1], [2]string{"etc/passwd", "root"})
			l, init := laidOver(t, l)
			_, given := laidOver(t, newLayers(t))
			if laid, usual := namesBelow(t, init), namesBelow(t, given); !slices.Equal(laid, usual) {
				t.Errorf("over %s -> %s is laid %q, over nothing %q", name, target, laid, usual)
			}
			wantChanges(t, l)
		}
	}
	if names := namesBelow(t, outside); len(names) > 1 {
		t.Errorf("outside is made %q", names)
	}
}

func namesBelow(t *testing.T, directory string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(directory, func(name string, entry fs.DirEntry, err error) error {
		names = append(names, entry.Type().String()+strings.TrimPrefix(name, directory))
		return err
	}))
	return names
}

func TestAMountTableOfTheContainersOwnIsAChange(t *testing.T) {
	l, _ := laidOver(t, newLayers(t))
	must(t, os.Mkdir(filepath.Join(l.Upper, "etc"), 0o755))
	link := filepath.Join(l.Upper, "etc/mtab")
	must(t, os.Symlink("/proc/mounts", link)) // of an earlier version
	wantChanges(t, l)
	must(t, os.Remove(link))
	must(t, os.Symlink("/elsewhere", link))
	wantChanges(t, l, "C /etc", "C /etc/mtab")
}

func TestMountPointsThatWereReplacedAreRestored(t *testing.T) {
	outside := t.TempDir()
	l, _ := laidOver(t, newLayers(t))
	root := l.Upper // as an overlay shows it
	for name, target := range map[string]string{"dev": outside, "proc": "/nowhere", "sys": "dev"} {
		must(t, os.Symlink(target, filepath.Join(root, name)))
	}
	directory, err := os.Open(root)
	must(t, err)
	defer directory.Close()
	for range 2 {
		must(t, RestoreMountPoints(int(directory.Fd())))
	}
	want := []string{"d---------", "d---------/dev", "----------/dev/console", "d---------/dev/pts", "d---------/dev/shm", "d---------/proc", "d---------/sys"}
	if names := namesBelow(t, root); !slices.Equal(names, want) {
		t.Errorf("there is %q", names)
	}
	for _, name := range []string{"dev", "proc", "sys"} { // a new directory hides what was there
		hide(t, root, name)
	}
	wantChanges(t, l)
	if names := namesBelow(t, outside); len(names) > 1 {
		t.Errorf("outside is made %q", names)
	}
}

func TestAnExportIsWhatTheOverlayShows(t *testing.T) {
	l := newLayers(t)
	plant(t, l.Lower[1], [2]string{"bin/sh", "shell"}, [2]string{"etc/a", "1"}, [2]string{"gone/x", "x"}, [2]string{"d/old", "x"}, [2]string{"file/now", "x"})
	must(t, os.Link(filepath.Join(l.Lower[1], "bin/sh"), filepath.Join(l.Lower[1], "bin/ash")))
	plant(t, l.Lower[0], [2]string{"etc/a", "2"}, [2]string{"etc/b", "->/bin/sh"})
	plant(t, l.Upper, [2]string{"etc/c", "3"}, [2]string{"file", "f"})
	whiteout(t, l.Upper, "gone")
	hide(t, l.Upper, "d")
	var stream bytes.Buffer
	must(t, l.WriteTar(t.Context(), &stream))
	want := map[string]string{
		"bin/": "", "bin/ash": "shell", "bin/sh": "->bin/ash", "etc/": "", "etc/a": "2", "etc/b": "->/bin/sh", "etc/c": "3", "d/": "", "file": "f",
	}
	if found := entriesOf(t, &stream); !maps.Equal(found, want) {
		t.Errorf("the tar holds %q, want %q", found, want)
	}
}

func TestALayerHoldsWhiteoutsAndEveryWrittenFile(t *testing.T) {
	l := newLayers(t)
	plant(t, l.Lower[0], [2]string{"etc/a", "1"}, [2]string{"etc/gone", "1"}, [2]string{"d/old", "x"}, [2]string{"untouched/x", "x"})
	plant(t, l.Upper, [2]string{"etc/a", "2"}, [2]string{"etc/hosts", ""}, [2]string{"untouched/", ""})
	for _, root := range []string{l.Upper, l.Lower[0]} { // looks the same as the image's
		must(t, os.Chtimes(filepath.Join(root, "etc/a"), time.Unix(1, 0), time.Unix(1, 0)))
	}
	whiteout(t, l.Upper, "etc/gone")
	hide(t, l.Upper, "d")
	var stream bytes.Buffer
	must(t, l.WriteLayer(t.Context(), &stream, nil))
	want := map[string]string{"d/": "", "d/.wh.old": "", "etc/": "", "etc/.wh.gone": "", "etc/a": "2"}
	if found := entriesOf(t, &stream); !maps.Equal(found, want) {
		t.Errorf("the layer holds %q, want %q", found, want)
	}
}

func TestALayerLeavesOutWhatWasMadeToMountOn(t *testing.T) {
	image := [][2]string{{"var/run", "->../run"}, {"run/here/", ""}, {"there/", ""}, {"loop", "->loop"}}
	made := [][2]string{
		{"run/secrets/one", ""}, {"run/here/", ""}, {"there/", ""}, {"deep/er/stub/", ""}, {"deep/er/file", "x"}, {"used/left", "x"}, {"alone/er/stub/", ""}, {"written", "x"}, {"not/", ""},
	}
	points := []string{"/var/run/secrets/one", "/run/here", "/there", "/deep/er/stub", "/used", "/alone/er/stub/", "/written", "/missing", "/loop/x"}
	want := map[string]string{"deep/": "", "deep/er/": "", "deep/er/file": "x", "used/": "", "used/left": "x", "written": "x", "not/": ""}
	layered := newLayers(t)
	plant(t, layered.Lower[0], image...)
	plant(t, layered.Upper, made...)
	dir := t.TempDir()
	plant(t, dir, image...)
	before := live(t, dir, Bounds{})
	plant(t, dir, made...)
	for _, files := range []interface {
		WriteLayer(context.Context, io.Writer, []string) error
	}{layered, before} {
		var stream bytes.Buffer
		must(t, files.WriteLayer(t.Context(), &stream, append(points, "/run/secrets/one")))
		if found := entriesOf(t, &stream); !maps.Equal(found, want) {
			t.Errorf("%T: the layer holds %q, want %q", files, found, want)
		}
	}
}

func TestARemovedContainerIsNotExportedInPart(t *testing.T) {
	l := newLayers(t)
	plant(t, l.Upper, [2]string{"a", "1"})
	err := l.Changes(t.Context(), func(Change) error { return os.RemoveAll(l.Upper) })
	assert.Check(t, is.ErrorIs(err, ErrNotFound))
}
