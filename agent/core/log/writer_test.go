package log

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func files(t *testing.T, dir string) (names []string, size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	assert.NilError(t, err)
	for _, e := range entries {
		info, err := e.Info()
		assert.NilError(t, err)
		names = append(names, e.Name())
		size += info.Size()
	}
	return names, size
}

func TestRotationKeepsTheNewestFilesAndNoMore(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{MaxSize: 1000, MaxFiles: 3})
	for i := range 500 {
		write(t, w, entry{Stdout, int64(i), strings.Repeat("x", 99) + "\n"})
	}
	write(t, w, entry{Stdout, 500, "the end\n"})
	names, size := files(t, dir)
	if len(names) != 3 || size > 3000 {
		t.Errorf("%d files with %d bytes", len(names), size)
	}
	r, err := w.Reader(both)
	out, _ := everything(t, r, err)
	if !strings.HasSuffix(out, "xx\nthe end\n") || len(out) < 1600 || len(out) > 3000 {
		t.Errorf("%d bytes are left", len(out))
	}
}

func TestWhatIsWrittenAtOnceStaysWithinTheFilesSize(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{MaxSize: 1000, MaxFiles: 3})
	write(t, w, entry{Stdout, 1, strings.Repeat("x\n", 100_000) + "the end\n"})
	if names, size := files(t, dir); len(names) != 3 || size > 3000 {
		t.Errorf("%d files with %d bytes", len(names), size)
	}
	r, err := w.Reader(both)
	out, _ := everything(t, r, err)
	if !strings.HasSuffix(out, "x\nthe end\n") || len(out) < 1000 {
		t.Errorf("%d bytes are left", len(out))
	}
}

func TestAContinuedLogDropsWhatALowerLimitNoLongerAllows(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{MaxSize: 100, MaxFiles: 9})
	for i := range 20 {
		write(t, w, entry{Stdout, int64(i), strings.Repeat("x", 60)})
	}
	w.Close()
	open(t, dir, Settings{MaxSize: 100, MaxFiles: 2})
	names, _ := files(t, dir)
	assert.Check(t, is.Len(names, 2))
}

func TestAWriterThatDiedLeavesNoTornRecord(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, "first\n"}, entry{Stderr, 2, "second\n"})
	w.Close()
	names, whole := files(t, dir)
	path := filepath.Join(dir, names[0])
	content, err := os.ReadFile(path)
	assert.NilError(t, err)
	firstRecord := int64(recordFraming + len("first\n"))
	for cut := firstRecord; cut < whole; cut++ {
		assert.NilError(t, os.WriteFile(path, content[:cut], 0o600))
		r, err := Stored(dir, both)
		if out, errOut := everything(t, r, err); out != "first\n" || errOut != "" {
			t.Fatalf("stored, cut at %d: %q and %q", cut, out, errOut)
		}
		w, recovery, err := Open(dir, Settings{})
		if err != nil || recovery.CutBytes != cut-firstRecord || recovery.Damaged != "" {
			t.Fatalf("cut at %d: %+v, %v", cut, recovery, err)
		}
		write(t, w, entry{Stdout, 3, "third\n"})
		r, err = w.Reader(both)
		if out, errOut := everything(t, r, err); out != "first\nthird\n" || errOut != "" {
			t.Fatalf("cut at %d: %q and %q", cut, out, errOut)
		}
		w.Close()
	}
}

func TestAnEndThatIsNoBeginningOfARecordIsDamage(t *testing.T) {
	random := rand.New(rand.NewPCG(30, 1))
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, "whole\n"})
	w.Close()
	names, _ := files(t, dir)
	path := filepath.Join(dir, names[0])
	whole, err := os.ReadFile(path)
	assert.NilError(t, err)
	flipped := bytes.Clone(whole)
	flipped[headerSize] ^= 1
	for name, content := range map[string][]byte{
		"random bytes": noise, "a few random bytes": noise[:3], "a flipped bit": flipped, "random bytes behind a record": append(bytes.Clone(whole), noise...),
	} {
		assert.NilError(t, os.WriteFile(path, content, 0o600))
		r, err := Stored(dir, both)
		for err == nil {
			_, err = r.Next(t.Context())
		}
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.File != path {
			t.Errorf("%s: %v", name, err)
		}
	}
	for cut := range len(whole) { // The machine died: the file has its length, and its end was not written.
		content := append(bytes.Clone(whole), whole[:cut]...)
		content = append(content, make([]byte, len(whole)-cut)...)
		assert.NilError(t, os.WriteFile(path, content, 0o600))
		r, err := Stored(dir, both)
		if out, _ := everything(t, r, err); cut <= len(whole)-trailerSize && out != "whole\n" {
			t.Fatalf("zeros from byte %d: %q", cut, out)
		}
	}
}

func TestADamagedFileIsLeftAndReportedAndTheLogGoesOn(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, "before\n"})
	damaged := endOf(t, w).offset
	for i := range 3 {
		write(t, w, entry{Stdout, int64(2 + i), strings.Repeat("lost", MaxRecord/4)})
	}
	end := endOf(t, w).offset
	w.Close()
	names, _ := files(t, dir)
	path := filepath.Join(dir, names[0])
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	assert.NilError(t, err)
	file.WriteAt([]byte("?"), damaged+headerSize+5)
	file.WriteAt([]byte("?"), end-1)
	file.Close()

	w, recovery, err := Open(dir, Settings{})
	if err != nil || recovery.Damaged != path || recovery.CutBytes != 0 {
		t.Fatalf("%+v, %v", recovery, err)
	}
	defer w.Close()
	write(t, w, entry{Stdout, 9, "after\n"})
	r, err := w.Reader(both)
	assert.NilError(t, err)
	defer r.Close()
	chunk, err := r.Next(t.Context())
	if err != nil || string(chunk.Data) != "before\n" {
		t.Fatalf("%q, %v", chunk.Data, err)
	}
	_, err = r.Next(t.Context())
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.File != path || corrupt.Offset != damaged {
		t.Fatalf("%v", err)
	}
	last := ""
	for !errors.Is(err, io.EOF) {
		if chunk, err = r.Next(t.Context()); err == nil {
			last = string(chunk.Data)
		} else if !errors.Is(err, io.EOF) && !errors.As(err, &corrupt) {
			t.Fatal(err)
		}
	}
	assert.Check(t, last == "after\n", "after the damage: %.100q", last)
}

func TestALogGoesOnBehindAFileThatTheDiskHasLost(t *testing.T) {
	dir := t.TempDir()
	unreadable, err := os.Open("/proc/self/mem") // its first page: EIO
	assert.NilError(t, err)
	lost := &segment{number: 1, path: segmentPath(dir, 1), file: unreadable}
	lost.size.Store(100)
	segments, recovery, err := recoverLast(dir, []*segment{lost})
	if err != nil || recovery.Damaged != lost.path || len(segments) != 2 {
		t.Fatalf("%d files, %+v, %v", len(segments), recovery, err)
	}
	w := &Writer{dir: dir, chain: newChain(segments)}
	defer w.Close()
	write(t, w, entry{Stdout, 1, "after\n"})
	r, err := w.Reader(both)
	assert.NilError(t, err)
	defer r.Close()
	_, err = r.Next(t.Context())
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.File != lost.path {
		t.Fatalf("%v", err)
	}
	if chunk, err := r.Next(t.Context()); err != nil || string(chunk.Data) != "after\n" {
		t.Fatalf("%q, %v", chunk.Data, err)
	}
}

func TestReadingGoesOnBehindBlocksThatTheDiskHasLost(t *testing.T) {
	// This process's memory can be read where it is mapped: the rest gives EIO.
	const block, begin = lostTogether, 4 * lostTogether
	memory, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	assert.NilError(t, err)
	for _, at := range []int64{begin, begin + 2*block} {
		flags := uintptr(unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE)
		if _, _, errno := unix.RawSyscall6(unix.SYS_MMAP, uintptr(at), block, unix.PROT_READ|unix.PROT_WRITE, flags, ^uintptr(0), 0); errno != 0 {
			t.Skipf("the first pages of memory are not to be had: %v", errno)
		}
		defer func() { _, _, _ = unix.RawSyscall(unix.SYS_MUNMAP, uintptr(at), block, 0) }()
	}
	var framing [recordFraming]byte
	data := []byte(strings.Repeat("x", 99) + "\n")
	encodeFraming(&framing, Stdout, 0, 1, data)
	record := slices.Concat(framing[:headerSize], data, framing[headerSize:])
	written := bytes.Repeat(record, 3*block/len(record))
	size := begin + int64(len(written))
	for _, at := range []int64{0, 2 * block} {
		part := written[at:min(at+block, int64(len(written)))]
		_, err := memory.WriteAt(part, begin+at)
		assert.NilError(t, err)
	}
	lost := &segment{number: 1, path: "lost", file: memory}
	lost.size.Store(size)
	r, err := newReader(newChain([]*segment{lost}), both, true)
	assert.NilError(t, err)
	defer r.Close()
	lines, damages := 0, 0
	for {
		chunk, err := r.Next(t.Context())
		var corrupt *CorruptError
		if err == io.EOF {
			break
		}
		if errors.As(err, &corrupt) {
			damages++
			continue
		}
		assert.NilError(t, err)
		lines += bytes.Count(chunk.Data, []byte("\n"))
	}
	// The lost block has cut a record at each of its ends.
	if want := 3*block/len(record) - block/len(record) - 2; lines < want || damages != 2 {
		t.Errorf("%d lines of at least %d, %d damages", lines, want, damages)
	}
}

func TestReadingGoesOnBehindDamage(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, "first\n"})
	damaged := endOf(t, w).offset
	write(t, w, entry{Stdout, 2, strings.Repeat("SL", 700_000)}, entry{Stdout, 3, "third\n"}, entry{Stderr, 4, "fourth\n"})
	_, err := w.chain.last().file.WriteAt([]byte("?"), damaged+headerSize+30_000)
	assert.NilError(t, err)
	r, err := w.Reader(both)
	assert.NilError(t, err)
	defer r.Close()
	text, damages := "", 0
	for {
		chunk, err := r.Next(t.Context())
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			damages++
			continue
		}
		if err != nil {
			break
		}
		text += string(chunk.Data[:min(len(chunk.Data), 100)]) + "|"
	}
	// The damaged chunk was larger than a record: its second part is whole.
	if want := "first\n|"; !strings.HasPrefix(text, want) || !strings.HasSuffix(text, "fourth\n|") || damages != 1 {
		t.Errorf("%q, damaged %d times", text, damages)
	}
}

func TestTheLastLinesBehindADamageComeWithIt(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, "first\n"}, entry{Stdout, 2, "second\n"})
	damaged := endOf(t, w).offset - trailerSize - 1
	_, err := w.chain.last().file.WriteAt([]byte("?"), damaged)
	assert.NilError(t, err)
	tail := uint64(1)
	for _, behind := range []string{"", "third\n", "fourth\n"} {
		if behind != "" {
			write(t, w, entry{Stdout, 3, behind})
		}
		r, err := w.Reader(ReadOptions{Stdout: true, Tail: &tail})
		assert.NilError(t, err)
		text, told := "", false
		for err == nil {
			var chunk Chunk
			var corrupt *CorruptError
			chunk, err = r.Next(t.Context())
			if errors.As(err, &corrupt) {
				told, err = true, nil
			}
			text += string(chunk.Data)
		}
		r.Close()
		if text != behind || told != (behind != "fourth\n") {
			t.Errorf("behind %q: %q, told of damage: %v", behind, text, told)
		}
	}
}

func TestALogThatSomebodyCutsDoesNotEndAsIfItWereWhole(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, Settings{})
	write(t, w, entry{Stdout, 1, "first\n"}, entry{Stdout, 2, "second\n"})
	names, _ := files(t, dir)
	for _, left := range []int64{0, recordFraming + 6, recordFraming + 10} {
		assert.NilError(t, os.Truncate(filepath.Join(dir, names[0]), left))
		r, err := w.Reader(both)
		assert.NilError(t, err)
		for err == nil {
			_, err = r.Next(t.Context())
		}
		r.Close()
		var corrupt *CorruptError
		assert.Check(t, errors.As(err, &corrupt), "%d bytes left: %v", left, err)
	}
}

func TestADisabledLogKeepsNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	w := open(t, dir, Settings{Disabled: true})
	write(t, w, entry{Stdout, 1, "x"})
	_, err := w.Reader(both)
	assert.Check(t, is.ErrorIs(err, ErrDisabled), "reading")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory was made: %v", err)
	}
}

func TestALogInMemoryIsBoundedAndReads(t *testing.T) {
	if _, _, err := Open("", Settings{}); err == nil {
		t.Error("an unbounded log in memory was made")
	}
	w := open(t, "", Settings{MaxSize: 1000, MaxFiles: 2})
	for i := range 100 {
		write(t, w, entry{Stdout, int64(i), strings.Repeat("x", 99) + "\n"})
	}
	r, err := w.Reader(both)
	if out, _ := everything(t, r, err); len(out) < 800 || len(out) > 2000 {
		t.Errorf("%d bytes", len(out))
	}
}

func TestAChunkLargerThanARecordIsKeptWhole(t *testing.T) {
	w := open(t, t.TempDir(), Settings{})
	big := bytes.Repeat([]byte("0123456789abcdef"), (2*MaxRecord+100)/16)
	assert.NilError(t, w.Append(Stdout, at(1), big))
	r, err := w.Reader(both)
	if out, _ := everything(t, r, err); out != string(big) {
		t.Errorf("%d of %d bytes", len(out), len(big))
	}
}

func TestAFullDiskIsReportedAndLeavesWholeRecords(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	w := open(t, dir, Settings{})
	kept := 0
	var err error
	for err == nil {
		if err = w.Append(Stdout, at(1), bytes.Repeat([]byte("x"), 5000)); err == nil {
			kept += 5000
		}
		assert.Assert(t, kept <= 64<<10, "more was kept than fits")
	}
	assert.Check(t, is.ErrorIs(err, unix.ENOSPC))
	r, err := w.Reader(both)
	if out, _ := everything(t, r, err); len(out) != kept {
		t.Errorf("%d of %d bytes", len(out), kept)
	}
	w.Close()
}
