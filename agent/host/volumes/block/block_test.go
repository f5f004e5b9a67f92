package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/mounts"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
)

var small = Driver{DefaultSize: 64 << 20}

// makeFor and mountFor name the directory of a volume that this program makes or
// mounts instead of testing.
const (
	makeFor  = "SOCKERLESS_TEST_MAKE"
	mountFor = "SOCKERLESS_TEST_MOUNT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(makeFor); dir != "" {
		_, err := small.Make(context.Background(), driver.Volume{Name: "db", Dir: dir})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if dir := os.Getenv(mountFor); dir != "" {
		fmt.Fprintln(os.Stderr, small.Mount(context.Background(), driver.Volume{Name: "db", Dir: dir}))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func newVolume(t *testing.T, options map[string]string) driver.Volume {
	t.Helper()
	v := driver.Volume{Name: "db", Dir: t.TempDir(), Options: options}
	assert.NilError(t, os.Mkdir(v.Data(), 0o755))
	t.Cleanup(func() {
		mounts.Unmount(v.Data())
		waitForNoLoop(t, v)
	})
	return v
}

// patience bounds waits, on a busy machine.
const patience = 2 * time.Minute

func waitForNoLoop(t *testing.T, v driver.Volume) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		devices, err := exec.Command("losetup", "--noheadings", "--output", "NAME,BACK-FILE").Output()
		if err == nil && !strings.Contains(string(devices), v.Dir) {
			return
		}
		assert.Assert(t, !time.Now().After(deadline), "a loop device is left: %s %v", devices, err)
	}
}

func mounted(t *testing.T, v driver.Volume) {
	t.Helper()
	assert.NilError(t, small.Mount(t.Context(), v))
}

func unmounted(t *testing.T, v driver.Volume) {
	t.Helper()
	assert.NilError(t, mounts.Unmount(v.Data()))
	waitForNoLoop(t, v)
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"512M": 512 << 20, "10G": 10 << 30, "16777217": 16<<20 + 4096, "1gb": 1 << 30} {
		if got, err := small.settings(map[string]string{"size": text}); err != nil || got.size != want {
			t.Errorf("%s: %d %v", text, got.size, err)
		}
	}
	for _, options := range []map[string]string{
		{"size": "much"}, {"size": ""}, {"size": "-1"}, {"size": "1M"}, {"size": "99999T"}, {"fallocate": "perhaps"}, {"type": "nfs"},
		{"size": "NaN"}, {"size": "Inf"}, {"size": "1e400"}, {"size": "0x40000000"}, {"size": "99999999999999999999"}, {"size": "9223372036854775807T"},
		{"size": "17592186044417"}, {"size": "64M\n"}, {"size": "64M,discard"}, {"": "64M"}, {"fallocate": ""}, {"fallocate": "FULL"},
	} {
		if err := small.Check(options); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", options, err)
		}
	}
	if got, err := small.settings(nil); err != nil || got.size != 64<<20 || got.sizeAsked {
		t.Errorf("%+v %v", got, err)
	}
}

func TestAnImageIsSparseWholeAndEmpty(t *testing.T) {
	v := newVolume(t, map[string]string{"size": "10G"})
	for range 2 {
		made, err := small.Make(t.Context(), v)
		assert.NilError(t, err)
		if made.Mountpoint != filepath.Join(v.Dir, "volume.img") || made.Status["format"] != "ext4" || made.Status["size"] != "10737418240" {
			t.Errorf("%+v", made)
		}
	}
	waitForNoLoop(t, v)
	size, err := small.Measure(t.Context(), v)
	if err != nil || size > 16<<20 {
		t.Errorf("%d bytes, %v", size, err)
	}
	if growth, err := small.Growth(v); err != nil || growth != 10<<30-size {
		t.Errorf("%d bytes of 10 GiB, and %d may come: %v", size, growth, err)
	}
	features, err := exec.Command("dumpe2fs", imageOf(v)).CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^Reserved block count: +0$`).Match(features) || strings.Count(string(features), "ITABLE_ZEROED") != 80 {
		t.Errorf("%v: %d groups of 80 need no initialisation, or blocks are reserved", err, strings.Count(string(features), "ITABLE_ZEROED"))
	}
	mounted(t, v)
	entries, err := os.ReadDir(v.Data())
	if err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
	v.Options = map[string]string{"size": "20G"}
	if _, err := small.Make(t.Context(), v); connect.CodeOf(err) != connect.CodeAlreadyExists || !strings.Contains(err.Error(), "exists with 10GiB: remove it first") {
		t.Error(err)
	}
}

func TestAHalfMadeImageIsMadeAnew(t *testing.T) {
	v := newVolume(t, nil)
	assert.NilError(t, os.WriteFile(imageOf(v)+".new", []byte("half"), 0o600))
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	mounted(t, v)
	entries, err := os.ReadDir(v.Dir)
	if err != nil || len(entries) != 2 {
		t.Error(entries, err)
	}
}

func TestWhatIsDeletedGoesBack(t *testing.T) {
	v := newVolume(t, nil)
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	mounted(t, v)
	sizes := make([]uint64, 2)
	for i, work := range []func() error{
		func() error { return os.WriteFile(filepath.Join(v.Data(), "file"), make([]byte, 32<<20), 0o600) },
		func() error { return os.Remove(filepath.Join(v.Data(), "file")) },
	} {
		assert.NilError(t, work())
		unmounted(t, v)
		var err error
		if sizes[i], err = small.Measure(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		mounted(t, v)
	}
	if sizes[0] < 32<<20 || sizes[1] > sizes[0]-24<<20 {
		t.Errorf("with the file %d bytes, without %d", sizes[0], sizes[1])
	}
	assert.Check(t, is.ErrorIs(os.WriteFile(filepath.Join(v.Data(), "file"), make([]byte, 65<<20), 0o600), unix.ENOSPC), "a full image")
}

func TestAllOfItIsAllocatedWhereThatIsAskedFor(t *testing.T) {
	v := newVolume(t, map[string]string{"size": "32M", "fallocate": "true"})
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	if size, err := small.Measure(t.Context(), v); err != nil || size < 32<<20 {
		t.Errorf("%d bytes, %v", size, err)
	}
	if growth, err := small.Growth(v); err != nil || growth != 0 {
		t.Errorf("%d bytes may come: %v", growth, err)
	}
	mounted(t, v)
	if err := errors.Join(os.WriteFile(filepath.Join(v.Data(), "file"), make([]byte, 8<<20), 0o600), os.Remove(filepath.Join(v.Data(), "file"))); err != nil {
		t.Fatal(err)
	}
	unmounted(t, v)
	if size, err := small.Measure(t.Context(), v); err != nil || size < 32<<20 {
		t.Errorf("%d bytes, %v", size, err)
	}
	if first, err := unwritten(v); err != nil || first >= 32<<20 {
		t.Errorf("the first byte that is not written: %d, %v", first, err)
	}
	tooLarge := newVolume(t, map[string]string{"size": "15T", "fallocate": "true"})
	_, err = small.Make(t.Context(), tooLarge)
	assert.Check(t, is.ErrorContains(err, "allocate 15TiB: no space left on device: there is room for"))
}

// unwritten returns the offset of the first unwritten bytes; the size: all are
// written.
func unwritten(v driver.Volume) (int64, error) {
	image, err := os.Open(imageOf(v))
	if err != nil {
		return 0, err
	}
	defer image.Close()
	return image.Seek(0, unix.SEEK_HOLE)
}

func TestAllOfItIsWrittenWhereThatIsAskedFor(t *testing.T) {
	v := newVolume(t, map[string]string{"size": "32M", "fallocate": "full"})
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	isWritten := func() {
		t.Helper()
		if first, err := unwritten(v); err != nil || first != 32<<20 {
			t.Errorf("the first byte that is not written: %d, %v", first, err)
		}
		if growth, err := small.Growth(v); err != nil || growth != 0 {
			t.Errorf("%d bytes may come: %v", growth, err)
		}
	}
	isWritten()
	mounted(t, v)
	if err := errors.Join(os.WriteFile(filepath.Join(v.Data(), "file"), make([]byte, 8<<20), 0o600), os.Remove(filepath.Join(v.Data(), "file"))); err != nil {
		t.Fatal(err)
	}
	unmounted(t, v)
	isWritten()
	if output, err := exec.Command("e2fsck", "-fn", imageOf(v)).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
	left := newVolume(t, map[string]string{"fallocate": "full"})
	_, err = small.Make(leftAlready(t), left)
	assert.Check(t, is.ErrorIs(err, context.Canceled))
}

// A mount kept elsewhere has the device, which the next mount shares.
func TestAnImageHasOneDevice(t *testing.T) {
	v := newVolume(t, nil)
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	mounted(t, v)
	kept := filepath.Join(v.Dir, "kept")
	assert.NilError(t, errors.Join(os.Mkdir(kept, 0o700), unix.Mount(v.Data(), kept, "", unix.MS_BIND, ""), mounts.Unmount(v.Data())))
	defer mounts.Unmount(kept)
	mounted(t, v)
	assert.NilError(t, os.WriteFile(filepath.Join(kept, "file"), nil, 0o600))
	_, err = os.Stat(filepath.Join(v.Data(), "file"))
	assert.Check(t, err)
}

func BenchmarkMountAndUnmount(b *testing.B) {
	v := driver.Volume{Name: "db", Dir: b.TempDir()}
	assert.NilError(b, os.Mkdir(v.Data(), 0o755))
	_, err := (Driver{DefaultSize: 10 << 30}).Make(b.Context(), v)
	assert.NilError(b, err)
	for b.Loop() {
		assert.NilError(b, errors.Join(small.Mount(b.Context(), v), mounts.Unmount(v.Data())))
	}
}

func TestADirtyImageIsReplayed(t *testing.T) {
	v := newVolume(t, nil)
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	mounted(t, v)
	file, err := os.Create(filepath.Join(v.Data(), "file"))
	assert.NilError(t, err)
	assert.NilError(t, errors.Join(file.Sync(), file.Close()))
	// As left by a crash of the machine.
	died := newVolume(t, nil)
	begun, _ := heldUp(t, "e2fsck", "begins")
	if output, err := exec.Command("cp", "--sparse=always", imageOf(v), imageOf(died)).CombinedOutput(); err != nil {
		t.Fatal(string(output))
	}
	mounted(t, died)
	_, err = os.Stat(filepath.Join(died.Data(), "file"))
	assert.Check(t, err)
	if _, err := os.Stat(begun); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was checked, which the kernel had not asked for: %v", err)
	}
}

func TestADamagedImageIsRefusedByName(t *testing.T) {
	v := newVolume(t, nil)
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	overwrite := func(at int64, content []byte) {
		t.Helper()
		image, err := os.OpenFile(imageOf(v), os.O_WRONLY, 0)
		if err == nil {
			_, err = image.WriteAt(content, at)
		}
		assert.NilError(t, errors.Join(err, image.Close()))
	}
	refused := func(reason string) {
		t.Helper()
		before, _ := os.ReadFile(imageOf(v))
		err := small.Mount(t.Context(), v)
		if err == nil || !strings.Contains(err.Error(), "volume db ") || !strings.Contains(err.Error(), reason) {
			t.Error(err)
		}
		after, _ := os.ReadFile(imageOf(v))
		assert.Check(t, string(before) == string(after), "it was changed")
	}
	overwrite(superblock+0x60, []byte{0xff, 0xff, 0xff, 0xff}) // features that nobody knows
	refused("cannot be mounted")
	overwrite(superblock, make([]byte, 1024))
	refused("no EXT4 superblock")
}

// A link is not followed, and nothing blocks.
func TestWhatIsNoImageIsRefusedByName(t *testing.T) {
	for what, replace := range map[string]func(image string) error{
		"shorter":   func(image string) error { return os.Truncate(image, 32<<20) },
		"empty":     func(image string) error { return os.Truncate(image, 0) },
		"noise":     func(image string) error { return os.WriteFile(image, bytes.Repeat([]byte{0xa5}, 1<<20), 0o600) },
		"missing":   os.Remove,
		"directory": func(image string) error { return errors.Join(os.Remove(image), os.Mkdir(image, 0o700)) },
		"link": func(image string) error {
			return errors.Join(os.Rename(image, image+".old"), os.Symlink(image+".old", image))
		},
		"pipe": func(image string) error { return errors.Join(os.Remove(image), unix.Mkfifo(image, 0o600)) },
	} {
		v := newVolume(t, nil)
		_, err := small.Make(t.Context(), v)
		assert.NilError(t, err)
		waitForNoLoop(t, v)
		assert.NilError(t, replace(imageOf(v)))
		assert.Check(t, is.ErrorContains(small.Mount(t.Context(), v), "volume db"), what)
		if is, err := mounts.IsMountPoint(v.Data()); is || err != nil {
			t.Errorf("%s is mounted: %t %v", what, is, err)
		}
		waitForNoLoop(t, v)
	}
}

// withNotedErrors is a volume in which the kernel has recorded errors.
func withNotedErrors(t *testing.T) driver.Volume {
	t.Helper()
	v := newVolume(t, nil)
	_, err := small.Make(t.Context(), v)
	assert.NilError(t, err)
	waitForNoLoop(t, v)
	if output, err := exec.Command("debugfs", "-w", "-R", "ssv state 2", imageOf(v)).CombinedOutput(); err != nil {
		t.Fatal(string(output))
	}
	return v
}

func cleanNow(t *testing.T, v driver.Volume) {
	t.Helper()
	unmounted(t, v)
	state, err := exec.Command("dumpe2fs", "-h", imageOf(v)).Output()
	if err != nil || !strings.Contains(string(state), "Filesystem state:         clean\n") {
		t.Errorf("%v %s", err, state)
	}
}

func TestAFileSystemWithRecordedErrorsIsCheckedAndTheCheckReported(t *testing.T) {
	v := withNotedErrors(t)
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	mounted(t, v)
	if said := log.String(); !strings.Contains(said, "was checked") || !strings.Contains(said, "volume=db") || !strings.Contains(said, "check forced") {
		t.Error(said)
	}
	cleanNow(t, v)
}

// e2fsck -p does not repair what needs a decision.
func TestErrorsThatNeedADecisionAreRefusedByName(t *testing.T) {
	v := withNotedErrors(t)
	if output, err := exec.Command("debugfs", "-w", "-R", "clri <2>", imageOf(v)).CombinedOutput(); err != nil {
		t.Fatal(string(output))
	}
	err := small.Mount(t.Context(), v)
	if err == nil || !strings.Contains(err.Error(), "volume db is damaged: ") || !strings.Contains(err.Error(), "UNEXPECTED INCONSISTENCY") ||
		!strings.Contains(err.Error(), "(it is not repaired unasked: `e2fsck -f "+imageOf(v)+"`, or bring back a copy)") {
		t.Error(err)
	}
	if is, err := mounts.IsMountPoint(v.Data()); is || err != nil {
		t.Errorf("it is mounted: %t %v", is, err)
	}
}

func TestAMissingProgramIsNamedWithItsPackage(t *testing.T) {
	_, _, err := program(t.Context(), "mkfs.missing")
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "block volumes need mkfs.missing: install the package e2fsprogs") {
		t.Error(err)
	}
}

// A device that a probe has open, for example, would show the file system as it
// was before the check.
func TestACheckWaitsForADeviceThatLingers(t *testing.T) {
	v := withNotedErrors(t)
	image, err := os.OpenFile(imageOf(v), os.O_RDWR, 0)
	assert.NilError(t, err)
	defer image.Close()
	lingers, err := newLoop(image)
	assert.NilError(t, err)
	defer lingers.Close()
	err = small.Mount(leftAlready(t), v)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "volume db is to be checked, and somebody has "+lingers.Name()+" open") {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { done <- small.Mount(t.Context(), v) }()
	assert.NilError(t, errors.Join(lingers.Close(), <-done))
	cleanNow(t, v)
}

// heldUp makes a program wait before its work until it is released, and then
// print the words, if any. The file reports each start.
func heldUp(t *testing.T, program, words string) (begun string, letGo func()) {
	t.Helper()
	real, err := exec.LookPath(program)
	assert.NilError(t, err)
	dir := t.TempDir()
	begun, free := filepath.Join(dir, "begun"), filepath.Join(dir, "free")
	script := fmt.Sprintf("#!/bin/sh\necho begun >> %[1]s\nwhile [ -e %[1]s ] && [ ! -e %[2]s ]; do sleep 0.01; done\n[ -z '%[4]s' ] || echo '%[4]s'\nexec %[3]s \"$@\"\n", begun, free, real, words)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return begun, func() {
		assert.NilError(t, os.WriteFile(free, nil, 0o600))
	}
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		assert.Assert(t, !time.Now().After(deadline), "%s does not come", path)
	}
}

func TestACheckThatHasBegunOutlivesItsCaller(t *testing.T) {
	v := withNotedErrors(t)
	begun, letGo := heldUp(t, "e2fsck", "begins")
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- small.Mount(ctx, v) }()
	waitForFile(t, begun)
	leave()
	letGo()
	assert.Check(t, <-done)
	cleanNow(t, v)
}

// killedOnce runs this program on the volume, and kills it once the file exists.
func killedOnce(t *testing.T, begun, job string, v driver.Volume) {
	t.Helper()
	process := exec.Command("/proc/self/exe")
	process.Env = append(os.Environ(), job+"="+v.Dir)
	assert.NilError(t, process.Start())
	waitForFile(t, begun)
	assert.NilError(t, process.Process.Kill())
	_ = process.Wait() // It was killed.
}

func leftAlready(t *testing.T) context.Context {
	ctx, leave := context.WithCancel(t.Context())
	leave()
	return ctx
}

func refusedMeanwhile(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "volume db is being made or checked") {
		t.Error(err)
	}
}

// The process dies, mkfs.ext4 continues, and does not affect the next process's
// image.
func TestAnImageThatIsBeingMadeIsWaitedFor(t *testing.T) {
	v := newVolume(t, nil)
	begun, letGo := heldUp(t, "mkfs.ext4", "") // Its words would go to a pipe that nobody reads.
	killedOnce(t, begun, makeFor, v)
	_, err := small.Make(leftAlready(t), v)
	refusedMeanwhile(t, err)
	letGo()
	_, err = small.Make(t.Context(), v)
	assert.NilError(t, err)
	if output, err := exec.Command("e2fsck", "-fn", imageOf(v)).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// The process dies, e2fsck continues, and the next process does not mount what it
// writes to.
func TestAnImageThatIsBeingCheckedIsWaitedFor(t *testing.T) {
	v := withNotedErrors(t)
	begun, letGo := heldUp(t, "e2fsck", "begins")
	killedOnce(t, begun, mountFor, v)
	refusedMeanwhile(t, small.Mount(leftAlready(t), v))
	letGo()
	mounted(t, v)
	cleanNow(t, v)
	if checks, err := os.ReadFile(begun); string(checks) != "begun\n" {
		t.Errorf("%q %v", checks, err)
	}
}
