package volumes

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes/block"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	"github.com/sockerless/sockerless/agent/host/volumes/local"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// patience bounds waits, on a busy machine.
const patience = 2 * time.Minute

func TestAShortageIsReportedOnceForEachCrossing(t *testing.T) {
	const gib = 1 << 30
	type growths = map[string]growth
	to := func(bytes uint64) growth { return growth{bytes: bytes, mount: 1} }
	watch := roomWatch{}
	for _, step := range []struct {
		what    string
		free    uint64
		growths growths
		told    []string
	}{
		{"room for each", 20 * gib, growths{"a": to(10 * gib)}, nil},
		{"not for both", 15 * gib, growths{"a": to(10 * gib), "b": to(10 * gib)}, []string{"a", "b"}},
		{"still", 14 * gib, growths{"a": to(10 * gib), "b": to(10 * gib)}, nil},
		{"one more", 14 * gib, growths{"a": to(10 * gib), "b": to(10 * gib), "c": to(1)}, []string{"c"}},
		{"hardly any", gib - 1, growths{"a": to(10 * gib), "b": to(10 * gib)}, []string{"a", "b"}},
		{"at the edge", gib + 1, growths{"a": to(10 * gib), "b": to(10 * gib)}, nil},
		{"hardly any, as before", gib - 1, growths{"a": to(10 * gib), "b": to(10 * gib)}, nil},
		{"eased", 2 * gib, growths{"a": to(10 * gib), "b": to(10 * gib)}, nil},
		{"hardly any again", gib / 2, growths{"a": to(10 * gib), "b": to(10 * gib)}, []string{"a", "b"}},
		{"a is unmounted", gib / 2, growths{"b": to(10 * gib)}, nil},
		{"and mounted", gib / 2, growths{"a": to(10 * gib), "b": to(10 * gib)}, []string{"a"}},
		{"and again, with no look between", gib / 2, growths{"a": {10 * gib, 2}, "b": to(10 * gib)}, []string{"a"}},
		{"still so", gib / 2, growths{"a": {10 * gib, 2}, "b": to(10 * gib)}, nil},
		{"room for all", 30 * gib, growths{"a": to(10 * gib), "b": to(10 * gib)}, nil},
		{"b has all that it is to have", gib / 2, growths{"a": to(10 * gib), "b": to(0)}, []string{"a"}},
		{"only what has all", 0, growths{"b": to(0)}, nil},
	} {
		told := watch.look(step.free, step.growths)
		if !slices.Equal(told, step.told) {
			t.Errorf("%s: told of %v, not %v", step.what, told, step.told)
		}
	}
}

// tmpfsDisk is a private disk of 96 MiB.
func tmpfsDisk(t *testing.T) string {
	t.Helper()
	disk := t.TempDir()
	assert.NilError(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "size=96m"))
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	return disk
}

// openStoreOn opens a store on a disk that is checked at each period.
func openStoreOn(t *testing.T, disk string, period time.Duration) stored {
	t.Helper()
	can, err := trash.Open(filepath.Join(disk, "trash"))
	assert.NilError(t, err)
	t.Cleanup(can.Close)
	store, err := Open(Options{
		Dir: filepath.Join(disk, "volumes"), RunDir: t.TempDir(), Trash: can, UserPaths: userpaths.New(), RoomPeriod: period,
		Drivers: []driver.Driver{local.Driver{}, block.Driver{DefaultSize: 64 << 20}},
	})
	assert.NilError(t, err)
	return stored{store, t, disk}
}

func TestADiskThatFillsBelowAVolumeIsReported(t *testing.T) {
	disk := tmpfsDisk(t)
	s := openStoreOn(t, disk, time.Millisecond)
	small, whole := s.make("small", "block"), s.make("plain", "local")
	told := make(chan *hostv1.WatchVolumesResponse, 16)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- s.WatchRoom(ctx, func(shortage *hostv1.WatchVolumesResponse) error {
			told <- shortage
			return nil
		})
	}()
	s.must(s.Hold(t.Context(), "one", small, whole))
	s.must(os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 56<<20), 0o600))
	shortage := <-told
	if shortage.Name != "small" || shortage.Growth <= shortage.Free || shortage.Growth > 64<<20 {
		t.Error(shortage)
	}
	s.must(s.Release(t.Context(), "one"))
	leave()
	assert.Check(t, is.ErrorIs(<-ended, context.Canceled))
	assert.Check(t, len(told) == 0, "%d told again", len(told))
}

// storeWithLargeVolume opens a store with a block volume too large for its disk,
// and returns the volume's path. The disk is checked only at mounts.
func storeWithLargeVolume(t *testing.T) (_ stored, path string) {
	t.Helper()
	s := openStoreOn(t, tmpfsDisk(t), time.Hour)
	made, err := s.Create(t.Context(), &hostv1.CreateVolumeRequest{
		Name: "large", Driver: "block", Options: map[string]string{"size": "192M"},
	})
	s.must(err)
	t.Cleanup(func() { s.Remove(context.Background(), "large") })
	return s, made.Path
}

func TestAVolumeWithoutRoomIsReportedAtItsMount(t *testing.T) {
	s, path := storeWithLargeVolume(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	told := make(chan string)
	go func() {
		_ = s.WatchRoom(ctx, func(shortage *hostv1.WatchVolumesResponse) error {
			told <- shortage.Name
			return nil
		})
	}()
	s.must(s.Hold(t.Context(), "one", path))
	if name := <-told; name != "large" {
		t.Error(name)
	}
	s.must(s.Release(t.Context(), "one"))
}

// A restarting container has its volume mounted anew before the next check.
func TestAVolumeWithoutRoomIsReportedAtEachMount(t *testing.T) {
	s, path := storeWithLargeVolume(t)
	s.must(s.Hold(t.Context(), "one", path))
	told := make(chan string, 16)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- s.WatchRoom(ctx, func(shortage *hostv1.WatchVolumesResponse) error {
			if len(told) == 0 { // the watch does not check while it reports
				if err := errors.Join(s.Release(ctx, "one"), s.Hold(ctx, "one", path)); err != nil {
					return err
				}
			}
			told <- shortage.Name
			if len(told) == 2 {
				leave()
			}
			return nil
		})
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) || len(told) != 2 {
			t.Errorf("told %d times: %v", len(told), err)
		}
	case <-time.After(patience):
		t.Errorf("told %d times", len(told))
		leave()
		<-ended
	}
	s.must(s.Release(t.Context(), "one"))
}

func TestAVolumeThatCannotBeLookedAtHidesNoOther(t *testing.T) {
	s := openStoreOn(t, tmpfsDisk(t), time.Hour)
	sources := []string{s.make("broken", "block"), s.make("small", "block"), s.make("tight", "block")}
	s.must(s.Hold(t.Context(), "one", sources...))
	defer s.Release(context.Background(), "one")
	image := filepath.Join(s.dir, "volumes", "broken", "volume.img")
	s.must(errors.Join(os.Remove(image), os.Symlink(image, image)))
	told := make(chan string, 16)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- s.WatchRoom(ctx, func(shortage *hostv1.WatchVolumesResponse) error {
			told <- shortage.Name
			return nil
		})
	}()
	for _, want := range []string{"small", "tight"} {
		select {
		case name := <-told:
			assert.Check(t, name == want, "told of %s, not %s", name, want)
		case err := <-ended:
			t.Fatal(err)
		}
	}
	leave()
	assert.Check(t, is.ErrorIs(<-ended, context.Canceled))
}

func TestADiskBehindAVolumesLinkIsReported(t *testing.T) {
	roomy := t.TempDir()
	assert.NilError(t, unix.Mount("tmpfs", roomy, "tmpfs", 0, "size=4g"))
	t.Cleanup(func() { unix.Unmount(roomy, unix.MNT_DETACH) })
	other := tmpfsDisk(t)
	s := openStoreOn(t, roomy, time.Hour)
	here, there := s.make("here", "block"), s.make("there", "block")
	directory := filepath.Dir(there)
	s.must(exec.Command("cp", "--recursive", "--sparse=always", directory, filepath.Join(other, "there")).Run())
	s.must(errors.Join(os.RemoveAll(directory), os.Symlink(filepath.Join(other, "there"), directory)))
	s.must(os.WriteFile(filepath.Join(other, "ballast"), make([]byte, 56<<20), 0o600))
	s.must(s.Hold(t.Context(), "one", here, there))
	defer s.Release(context.Background(), "one")
	told := make(chan *hostv1.WatchVolumesResponse, 16)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- s.WatchRoom(ctx, func(shortage *hostv1.WatchVolumesResponse) error {
			told <- shortage
			return nil
		})
	}()
	select {
	case shortage := <-told:
		if shortage.Name != "there" || shortage.Free > 40<<20 {
			t.Error(shortage)
		}
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("nothing is told")
	}
	leave()
	assert.Check(t, is.ErrorIs(<-ended, context.Canceled))
	if len(told) != 0 {
		t.Error(<-told)
	}
}
