package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// deepTar has entries that each make two thousand directories.
func deepTar(t *testing.T, name string, entries int) *bytes.Reader {
	t.Helper()
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	for i := range entries {
		assert.NilError(t, writer.WriteHeader(&tar.Header{Name: fmt.Sprint(name, i, strings.Repeat("/a", 1900))}))
	}
	assert.NilError(t, writer.Close())
	return bytes.NewReader(content.Bytes())
}

const lastLink = "link36"

// timesTar ends with a directory's link replaced by links that take milliseconds to
// follow, on the way to directories that wait for their times.
func timesTar(t *testing.T, directories int) *bytes.Reader {
	t.Helper()
	entries := []entry{
		{Name: "real/", Typeflag: tar.TypeDir}, {Name: "d/", Typeflag: tar.TypeDir},
		{Name: "to", Typeflag: tar.TypeSymlink, Linkname: "real"},
	}
	for n := range directories {
		entries = append(entries, entry{Name: fmt.Sprint("to/", n), Typeflag: tar.TypeDir})
	}
	next := "real"
	for n := range 37 {
		name := fmt.Sprint("link", n)
		entries = append(entries, entry{Name: name, Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("d/../", 800) + next})
		next = name
	}
	entries = append(entries, entry{Name: "to", Typeflag: tar.TypeSymlink, Linkname: lastLink})
	return bytes.NewReader(tarOf(t, entries...))
}

func TestLayersThatAreUnpackedForLongKeepNoOtherFromItsTurn(t *testing.T) {
	const many = 2 * mostAtWork
	allAtWork := func(string) bool { return len(atWork.waiting) >= many-mostAtWork-1 }
	for kind, each := range map[string]struct {
		stream func(n int) *bytes.Reader
		begun  func(dir string) bool
	}{
		"paths": {func(n int) *bytes.Reader { return deepTar(t, fmt.Sprint(n, "-"), 100) }, allAtWork},
		"holes": {func(int) *bytes.Reader { return bytes.NewReader(sparseTar(holesThatTakeLong(t), 0, "")) }, allAtWork},
		"times": {
			func(int) *bytes.Reader { return timesTar(t, 200) },
			func(dir string) bool {
				last, err := filepath.Glob(filepath.Join(dir, "*", lastLink))
				return err == nil && len(last) >= mostAtWork
			},
		},
	} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			ctx, leave := context.WithCancel(t.Context())
			ended := make(chan error)
			for n := range many {
				from := each.stream(n)
				go func() {
					_, _, err := unpackMeasured(ctx, from, filepath.Join(dir, fmt.Sprint(n)))
					ended <- err
				}()
			}
			await(&atWork, func() bool { return each.begun(dir) })
			for n := range 3 {
				_, _, err := unpackMeasured(t.Context(), deepTar(t, "few", 0), filepath.Join(dir, fmt.Sprint("few", n)))
				assert.NilError(t, err)
			}
			select {
			case err := <-ended:
				t.Fatalf("one ended: %v", err)
			default:
			}
			leave()
			for range many {
				assert.Check(t, errors.Is(<-ended, context.Canceled))
			}
			awaitAllFree()
		})
	}
}

// holesThatTakeLong is the size of a file of zeros that takes seconds.
func holesThatTakeLong(t *testing.T) int64 {
	t.Helper()
	var stat unix.Statfs_t
	assert.NilError(t, unix.Statfs(t.TempDir(), &stat))
	return min(int64(stat.Blocks)*stat.Bsize, 64<<30)
}

func TestLayersWhoseTarsDoNotComeTakeNoTurn(t *testing.T) {
	dir := t.TempDir()
	ended := make(chan error)
	var senders []*io.PipeWriter
	for n := range 2 * mostAtWork {
		tar, sender := io.Pipe()
		senders = append(senders, sender)
		go func() {
			_, err := unpackTar(t.Context(), tar, filepath.Join(dir, fmt.Sprint(n)))
			ended <- err
		}()
	}
	_, err := unpackTar(t.Context(), deepTar(t, "whole", 1), filepath.Join(dir, "whole"))
	assert.NilError(t, err)
	for _, sender := range senders {
		sender.Close()
	}
	for range senders {
		assert.NilError(t, <-ended)
	}
	awaitAllFree()
}

func TestALayerThatAnUploadHasUnpackedWaitsForNoOther(t *testing.T) {
	store, dir := openStore(t)
	announced, blob := upload(t, store, dir)
	plain := tarOf(t, entry{Name: "a"})
	assert.NilError(t, announced.Take(t.Context(), bytes.NewReader(plain)))
	assert.NilError(t, store.unpacking.Acquire(t.Context(), mostUnpacks))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, existed, err := store.Unpack(ctx, digestOf(plain), blob)
	assert.NilError(t, err)
	assert.Check(t, !existed)
	store.unpacking.Release(mostUnpacks)
	assert.NilError(t, announced.Close())
}

func TestTurnsGoToWhoHadLeastAndToWhoWaitsLongest(t *testing.T) {
	of := &turns{free: 1}
	running := of.share()
	assert.NilError(t, running.begin(t.Context()))
	order := make(chan int)
	for n, used := range []time.Duration{4, 3, 2, 1} {
		go func() {
			waiting := of.share()
			waiting.used = used * time.Hour
			assert.Check(t, waiting.begin(t.Context()))
			order <- int(used)
			waiting.end()
		}()
		await(of, func() bool { return len(of.waiting) == n+1 })
	}
	running.end()
	var got []int
	for range 4 {
		got = append(got, <-order)
	}
	assert.DeepEqual(t, got, []int{4, 1, 3, 2})
}

func TestANewcomerDoesNotWaitBehindACrowdOfWhichNoneHasHadATurn(t *testing.T) {
	of := &turns{free: 1}
	running := of.share()
	assert.NilError(t, running.begin(t.Context()))
	ctx, leave := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	for n := range 400 {
		crowd.Add(1)
		go func() {
			defer crowd.Done()
			waiting := of.share()
			if waiting.begin(ctx) == nil {
				<-ctx.Done()
				waiting.end()
			}
		}()
		await(of, func() bool { return len(of.waiting) == n+1 })
	}
	newcomer := of.share()
	came := make(chan error)
	go func() { came <- newcomer.begin(t.Context()) }()
	await(of, func() bool { return len(of.waiting) == 401 })
	running.end() // To the one that has waited longest.
	of.pass()
	select {
	case err := <-came:
		assert.NilError(t, err)
	case <-time.After(10 * time.Second):
		t.Error("it waits behind the crowd")
	}
	leave()
	crowd.Wait()
}

// await waits until it is true of the turns.
func await(of *turns, isSo func() bool) {
	for {
		of.mu.Lock()
		reached := isSo()
		of.mu.Unlock()
		if reached {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func awaitAllFree() {
	await(&atWork, func() bool { return atWork.free == mostAtWork })
}
