package archive

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// flip exchanges a directory and a link that leads outside, under one name, as
// fast as it can until the test's work is done.
func flip(t *testing.T, name, target string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		for ctx.Err() == nil {
			os.Rename(name, name+".dir")
			os.Symlink(target, name)
			os.Remove(name)
			os.Rename(name+".dir", name)
		}
	}()
	return func() { cancel(); done.Wait() }
}

func TestAContainerThatSwapsLinksWhileWeWalkGainsNothing(t *testing.T) {
	r, dir, outside := newRoot(t)
	plant(t, outside, [2]string{"host/secret", "SECRET"}, [2]string{"host/sub/f", "SECRET"})
	plant(t, dir, [2]string{"d/sub/f", "inside"}, [2]string{"d/sub/secret", "inside"})
	// The test itself must not walk through the flipped name.
	d, err := os.Open(filepath.Join(dir, "d"))
	must(t, err)
	defer d.Close()
	stops := []func(){
		flip(t, fmt.Sprintf("/proc/self/fd/%d/sub", d.Fd()), filepath.Join(outside, "host")),
		flip(t, filepath.Join(dir, "d"), "../host"),
	}
	stream := pack(t, directory("sub"), file("sub/f", "PUT"), file("sub/evil", "PUT"), link('1', "sub/linked", "sub/secret"), file("sub/deep/er", "PUT"))
	var read bytes.Buffer
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		r.Put(context.Background(), "/d", bytes.NewReader(stream), PutOptions{}) // it may fail: what counts is what it touches
		for _, path := range []string{"/d", "/d/sub", "/d/sub/secret", "/d/sub/linked"} {
			if tree, err := r.Get(path); err == nil {
				tree.WriteTar(context.Background(), &read)
				tree.Close()
			}
			r.Stat(path)
		}
		if read.Len() > 1<<20 {
			if strings.Contains(read.String(), "SECRET") {
				break
			}
			read.Reset()
		}
	}
	for _, stop := range stops {
		stop()
	}
	assert.Check(t, !strings.Contains(read.String(), "SECRET"), "a file outside was read")
	entries, err := os.ReadDir(filepath.Join(outside, "host"))
	must(t, err)
	if len(entries) != 2 || content(t, filepath.Join(outside, "host/secret")) != "SECRET" || content(t, filepath.Join(outside, "host/sub/f")) != "SECRET" {
		t.Errorf("outside was written: %v", entries)
	}
}

func TestANameThatTurnsIntoALinkIsNotWrittenThrough(t *testing.T) {
	r, dir, outside := newRoot(t)
	plant(t, dir, [2]string{"d/", ""})
	leaf, evil := filepath.Join(dir, "d/leaf"), filepath.Join(outside, "evil")
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		for ctx.Err() == nil {
			os.Symlink(evil, leaf)
			os.Remove(leaf)
		}
	}()
	streams := [][]byte{pack(t, file("leaf", "PUT")), pack(t, directory("leaf"), file("leaf/f", "PUT"))}
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		for _, stream := range streams {
			r.Put(context.Background(), "/d", bytes.NewReader(stream), PutOptions{})
		}
	}
	cancel()
	done.Wait()
	if _, err := os.Lstat(evil); !os.IsNotExist(err) {
		t.Errorf("it was written through: %v", err)
	}
}

// FuzzPut feeds any bytes to Put: nothing outside the root may change, and it
// may not panic.
func FuzzPut(f *testing.F) {
	f.Add(pack(f, directory("d"), file("d/f", "x"), link('2', "l", "/etc"), file("l/passwd", "x")))
	f.Add(pack(f, file("../x", "x")))
	f.Add(pack(f, link('1', "h", "../../secret")))
	f.Add(pack(f, link('2', "s", "."), file("s/../../x", "x")))
	f.Add(pack(f, link('6', "fifo", ""), directory("fifo")))
	f.Add([]byte{0x1f, 0x8b, 0x08, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		if bytes.HasPrefix(stream, gzipMagic) || bytes.HasPrefix(stream, zstdMagic) || bytes.HasPrefix(stream, bzip2Magic) {
			return // what unpacks to much is the decompressors' matter
		}
		r, dir, outside := newRoot(t)
		plant(t, outside, [2]string{"secret", "outside"})
		plant(t, dir, [2]string{"dest/out", "->" + outside}, [2]string{"dest/up", "->../../.."})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r.Put(ctx, "/dest", bytes.NewReader(stream), PutOptions{Owner: &Owner{os.Getuid(), os.Getgid()}})
		entries, err := os.ReadDir(outside)
		must(t, err)
		if len(entries) != 2 || content(t, filepath.Join(outside, "secret")) != "outside" {
			t.Fatalf("outside changed: %v", entries)
		}
	})
}
