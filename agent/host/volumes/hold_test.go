package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes/block"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	"github.com/sockerless/sockerless/agent/host/volumes/local"
	"github.com/sockerless/sockerless/agent/host/volumes/tmpfs"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

type stored struct {
	*Store
	t   *testing.T
	dir string
}

func openStore(t *testing.T) stored {
	t.Helper()
	dir := t.TempDir()
	can, err := trash.Open(filepath.Join(dir, "trash"))
	assert.NilError(t, err)
	t.Cleanup(can.Close)
	return stored{reopen(t, dir, can), t, dir}
}

func reopen(t *testing.T, dir string, can *trash.Can) *Store {
	t.Helper()
	store, err := Open(Options{
		Dir: filepath.Join(dir, "volumes"), RunDir: filepath.Join(dir, "run"), Trash: can, UserPaths: userpaths.New(),
		Drivers: []driver.Driver{local.Driver{}, block.Driver{DefaultSize: 32 << 20}, tmpfs.Driver{}},
	})
	assert.NilError(t, err)
	return store
}

func (s stored) make(name, driver string) string {
	s.t.Helper()
	made, err := s.Create(s.t.Context(), &hostv1.CreateVolumeRequest{Name: name, Driver: driver})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.Remove(context.Background(), name) })
	return made.Path
}

func (s stored) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s stored) isMounted(path string, want bool) {
	s.t.Helper()
	if is, err := mounts.IsMountPoint(path); err != nil || is != want {
		s.t.Errorf("%s is mounted: %t, %v", path, is, err)
	}
}

func (s stored) isOurs(path string) bool {
	_, _, ours := s.split(path)
	return ours
}

func TestAVolumeIsMountedWhileSomebodyHoldsIt(t *testing.T) {
	for _, kind := range []string{"block", "tmpfs"} {
		s := openStore(t)
		path := s.make("v", kind)
		s.isMounted(path, false)
		s.must(s.Hold(t.Context(), "one", path, "/somewhere/else"))
		s.must(s.Hold(t.Context(), "one", filepath.Join(path, "part")))
		s.must(s.Hold(t.Context(), "two", path))
		s.must(os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
		s.must(s.Release(t.Context(), "one"))
		s.must(s.Release(t.Context(), "one"))
		s.isMounted(path, true)
		s.must(s.Release(t.Context(), "two"))
		s.isMounted(path, false)
		s.must(s.Hold(t.Context(), "three", path))
		_, err := os.Stat(filepath.Join(path, "file"))
		if kept := err == nil; kept != (kind == "block") {
			t.Errorf("%s: kept %t", kind, kept)
		}
		s.must(s.Remove(t.Context(), "v"))
		s.isMounted(path, false)
	}
}

func TestADirectoryIsHeldByNobody(t *testing.T) {
	s := openStore(t)
	path := s.make("v", "local")
	s.must(s.Hold(t.Context(), "one", path))
	if entries, err := os.ReadDir(s.held); err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Error(entries, err) // as before there were drivers
	}
}

func TestWhatACrashLeavesMountedIsUnmounted(t *testing.T) {
	s := openStore(t)
	lives, dead, begun := s.make("lives", "block"), s.make("dead", "block"), s.make("begun", "tmpfs")
	s.must(s.Hold(t.Context(), "alive", lives))
	s.must(s.Hold(t.Context(), "view-of-alive", lives))
	s.must(s.Hold(t.Context(), "gone", dead))
	// Killed between the last holder and the unmount.
	s.must(s.Hold(t.Context(), "gone", begun))
	s.must(os.Remove(filepath.Join(s.held, "begun", "gone")))

	next := reopen(t, s.dir, s.trash)
	s.must(next.Reclaim(func(holder string) bool { return holder == "alive" }))
	s.isMounted(lives, true)
	s.isMounted(dead, false)
	s.isMounted(begun, false)
	s.must(next.Release(t.Context(), "alive"))
	s.isMounted(lives, false)
}

func TestAHolderThatCannotBeRecordedLeavesNothing(t *testing.T) {
	s := openStore(t)
	path := s.make("v", "tmpfs")
	if err := s.Hold(t.Context(), strings.Repeat("x", maxName+1), path); err == nil {
		t.Error("it is recorded")
	}
	if entries, err := os.ReadDir(s.held); err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
}

// Containers write to a mounted volume as well.
func TestALinkInAMountedVolumeLeadsNowhere(t *testing.T) {
	s := openStore(t)
	path := s.make("v", "block")
	s.must(s.Hold(t.Context(), "one", path))
	s.must(os.Symlink("/etc", filepath.Join(path, "link")))
	if _, err := s.OpenSource(filepath.Join(path, "link")); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
}

func TestAVolumeThatCannotBeMadeLeavesNothing(t *testing.T) {
	s := openStore(t)
	for _, request := range []*hostv1.CreateVolumeRequest{
		{Name: "v", Driver: "block", Options: map[string]string{"size": "1"}},
		{Name: "v", Driver: "block", Options: map[string]string{"size": "15T", "fallocate": "1"}},
		{Name: "v", Driver: "other"},
	} {
		if _, err := s.Create(t.Context(), request); err == nil {
			t.Error("it was made")
		}
		_, err := os.Lstat(filepath.Join(s.Store.dir, "v"))
		assert.Check(t, is.ErrorIs(err, os.ErrNotExist))
	}
}

func TestARecordThatIsDamagedIsNotTakenForADirectory(t *testing.T) {
	s := openStore(t)
	path := s.make("v", "block")
	s.must(os.WriteFile(recordPath(filepath.Dir(path)), []byte("{"), 0o600))
	if err := s.Hold(t.Context(), "one", path); err == nil {
		t.Error("it was held")
	}
}

func TestAPlainVolumeStaysPlainWhateverOptionsAreAskedFor(t *testing.T) {
	store := openStore(t)
	path := store.make("plain", "local")
	options := map[string]string{"type": "none", "o": "bind", "device": t.TempDir()}
	_, err := store.Create(t.Context(), &hostv1.CreateVolumeRequest{Name: "plain", Driver: "local", Options: options})
	store.must(err)
	_, err = os.Stat(recordPath(filepath.Dir(path)))
	assert.ErrorIs(t, err, os.ErrNotExist, "the volume has a record of other options")
}

func TestAVolumeOfOneContainerIsNotBound(t *testing.T) {
	s := openStore(t)
	block, shared := s.make("disk", "block"), s.make("plain", "local")
	link := filepath.Join(s.dir, "link")
	s.must(os.Symlink(filepath.Dir(block), link))
	s.must(os.Mkdir(filepath.Join(block, "made"), 0o755))
	s.must(os.Symlink("_data/made", filepath.Join(filepath.Dir(block), "inner")))
	for _, path := range []string{
		block, block + "/", filepath.Dir(block), filepath.Join(filepath.Dir(block), "volume.img"), link, link + "/_data",
		shared + "/../../disk/_data", link + "/inner/..", link + "/_data/not/there", filepath.Join(s.dir, "volumes/none/_data"),
	} {
		err := s.refuseBind(path)
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
		if file, err := s.OpenSource(path); file != nil && !s.isOurs(path) {
			t.Errorf("%s was opened: %v", path, err)
		}
		options := map[string]string{"type": "none", "o": "bind", "device": path}
		_, err = s.Create(t.Context(), &hostv1.CreateVolumeRequest{Name: "other", Driver: "local", Options: options})
		assert.Check(t, connect.CodeOf(err) == connect.CodeInvalidArgument, "%s: %v", path, err)
	}
	for _, path := range []string{shared, filepath.Dir(shared), s.dir, filepath.Join(s.dir, "volumes"), "/", "/no/such/path", link + "/../elsewhere"} {
		assert.Check(t, s.refuseBind(path), path)
	}
}

// Its image lies in the directory even while the volume is not mounted.
func TestAVolumeOfOneContainerIsNotBoundByAnotherMountOfItsDirectory(t *testing.T) {
	s := openStore(t)
	directory := filepath.Dir(s.make("disk", "block"))
	shared := filepath.Dir(s.make("plain", "local"))
	image := filepath.Join(directory, "volume.img")
	alias := func(source string) string {
		target := filepath.Join(s.t.TempDir(), "alias")
		if info, err := os.Stat(source); err == nil && info.Mode().IsRegular() {
			s.must(os.WriteFile(target, nil, 0o600))
		} else {
			s.must(os.Mkdir(target, 0o755))
		}
		s.must(unix.Mount(source, target, "", unix.MS_BIND, ""))
		t.Cleanup(func() { mounts.Unmount(target) })
		return target
	}
	hardLink := filepath.Join(s.dir, "hard")
	s.must(os.Link(image, hardLink))
	all := alias(filepath.Dir(directory))
	for _, path := range []string{
		alias(directory), alias(directory) + "/volume.img", alias(directory) + "/_data", alias(directory) + "/not/there",
		all + "/disk", all + "/disk/volume.img", alias(image), hardLink,
	} {
		if err := s.refuseBind(path); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{alias(shared), alias(shared) + "/_data", all + "/plain", all} {
		assert.Check(t, s.refuseBind(path), path)
	}
}

// The kernel mounts everything that an option's words lead to: layers of an
// overlay, a path relative to this process, a device.
func TestNoOptionLeadsIntoAVolumeOfOneContainer(t *testing.T) {
	s := openStore(t)
	block, shared := s.make("disk", "block"), s.make("plain", "local")
	s.must(s.Hold(t.Context(), "one", block))
	link, alias := filepath.Join(s.dir, "link"), filepath.Join(s.dir, "alias")
	s.must(errors.Join(os.Symlink(block, link), os.Mkdir(alias, 0o755), unix.Mount(block, alias, "", unix.MS_BIND, "")))
	for _, name := range []string{"a=b:c", `e\f`, `g\`, "g,h"} {
		s.must(os.Symlink(block, filepath.Join(s.dir, name)))
	}
	t.Cleanup(func() { mounts.Unmount(alias) })
	var stat unix.Stat_t
	s.must(unix.Stat(block, &stat))
	device := filepath.Join(s.dir, "device")
	s.must(unix.Mknod(device, unix.S_IFBLK|0o600, int(stat.Dev)))
	working, err := os.Getwd()
	s.must(err)
	relative, err := filepath.Rel(working, block)
	s.must(err)
	overlay := func(o string) map[string]string {
		return map[string]string{"type": "overlay", "device": "overlay", "o": o}
	}
	plain := func(device string) map[string]string {
		return map[string]string{"type": "none", "o": "bind", "device": device}
	}
	for _, options := range []map[string]string{
		overlay("lowerdir=" + shared + ":" + block), overlay("lowerdir=" + block + "::" + shared), overlay("lowerdir=:" + link),
		overlay("ro,lowerdir=" + shared + ",upperdir=" + block + "/up,workdir=" + shared),
		overlay("lowerdir=" + shared + ",upperdir=" + shared + ",workdir=" + filepath.Dir(block) + "/work"),
		overlay("lowerdir+=" + block), overlay("lowerdir=" + strings.ReplaceAll(block, "/disk/", `/\disk/`)),
		overlay("lowerdir=" + s.dir + `/a=b\:c`), overlay("device=" + s.dir + `/e\f`), overlay("lowerdir=" + relative), overlay("lowerdir=" + alias),
		plain(relative), plain("./" + relative), plain(alias), plain(link), plain("/proc/self/root" + block),
		{"type": "ext4", "device": device}, {"type": "ext4", "device": filepath.Join(filepath.Dir(block), "volume.img"), "o": "loop"},
		{"type": "btrfs", "device": "/dev/none", "o": "device=" + device},
	} {
		_, err := s.Create(t.Context(), &hostv1.CreateVolumeRequest{Name: "other", Driver: "local", Options: options})
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "volume disk") {
			t.Errorf("%v: %v", options, err)
		}
	}
	// Overlay lets a backslash escape a comma; other file systems, and the
	// removal of flags, do not.
	for _, o := range []string{"device=" + s.dir + `/g\,h`, "lowerdir=" + s.dir + `/g\,ro,h`} {
		_, err := s.Create(t.Context(), &hostv1.CreateVolumeRequest{Name: "other", Driver: "local", Options: overlay(o)})
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "a comma in a path") {
			t.Errorf("%s: %v", o, err)
		}
	}
	if err := s.refuseBind(alias); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
	for _, options := range []map[string]string{
		overlay("lowerdir=" + shared + ":/etc,upperdir=/srv/up,workdir=/srv/work"), plain(shared), plain("etc"), plain("/no/such"),
		{"type": "nfs", "device": ":/export", "o": "addr=10.0.0.1,rw"}, {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700"},
	} {
		assert.Check(t, s.refusePaths(t.Context(), options), options)
	}
	s.must(s.Release(t.Context(), "one"))
}

// An administrator has put a volume on another disk.
func TestAVolumeOfOneContainerIsNotBoundWhereItsDirectoryIsALink(t *testing.T) {
	s := openStore(t)
	block := s.make("disk", "block")
	elsewhere := filepath.Join(s.t.TempDir(), "disk")
	s.must(os.Rename(filepath.Dir(block), elsewhere))
	s.must(os.Symlink(elsewhere, filepath.Dir(block)))
	if err := s.refuseBind(block); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
}

// A link leads into a volume after the volume with the option was created.
func TestAnOptionsPathIsLookedAtAgainAtTheMount(t *testing.T) {
	s := openStore(t)
	block := s.make("disk", "block")
	link := filepath.Join(s.dir, "link")
	s.must(os.Symlink(s.t.TempDir(), link))
	made, err := s.Create(t.Context(), &hostv1.CreateVolumeRequest{
		Name: "other", Driver: "local", Options: map[string]string{"type": "none", "o": "bind", "device": link},
	})
	s.must(err)
	s.must(errors.Join(os.Remove(link), os.Symlink(block, link)))
	assert.Check(t, is.ErrorContains(s.Hold(t.Context(), "one", made.Path), "is in volume disk"))
	s.isMounted(made.Path, false)
}

// refuseBind checks one path.
func (s stored) refuseBind(path string) error {
	s.t.Helper()
	binds, err := s.CheckBinds()
	s.must(err)
	return binds.Refuse(path)
}
