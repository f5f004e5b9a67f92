package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/zstd"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

const uploadID = "id"

// upload announces an upload; its blob lies beside the layers.
func upload(t testing.TB, store *Store, dir string) (*Upload, string) {
	t.Helper()
	blob := filepath.Join(filepath.Dir(dir), "blob")
	announced, err := store.OpenUpload(uploadID, blob)
	assert.NilError(t, err)
	return announced, blob
}

func zipped(t testing.TB, plain []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var buffer bytes.Buffer
	writer, err := open(&buffer)
	assert.NilError(t, err)
	_, err = writer.Write(plain)
	assert.NilError(t, err)
	assert.NilError(t, writer.Close())
	return buffer.Bytes()
}

func gzipped(t testing.TB, plain []byte) []byte {
	return zipped(t, plain, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
}

func TestAnUploadIsStoredMeasuredAndUnpackedAtOnce(t *testing.T) {
	plain := tarOf(t,
		entry{Name: "a", Linkname: "content"},
		entry{Name: "large", Linkname: strings.Repeat("0123456789", 300_000)},
		entry{Name: ".wh.gone", Linkname: "x"},
	)
	plain = append(plain, bytes.Repeat([]byte{0}, 3*blockSize)...) // as tar pads
	for compression, blob := range map[string][]byte{
		"":     plain,
		"gzip": gzipped(t, plain),
		"zstd": zipped(t, plain, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
	} {
		t.Run("compression "+compression, func(t *testing.T) {
			store, dir := openStore(t)
			announced, path := upload(t, store, dir)
			assert.NilError(t, store.FindUpload(uploadID).Take(context.Background(), bytes.NewReader(blob)))
			<-announced.Done()
			taken, err := announced.Taken()
			want := Taken{digestOf(blob), uint64(len(blob)), digestOf(plain), uint64(len(plain)), compression}
			if err != nil || taken != want {
				t.Errorf("got %+v, %v, want %+v", taken, err, want)
			}
			if stored, err := os.ReadFile(path); err != nil || !bytes.Equal(stored, blob) {
				t.Errorf("%d bytes are stored: %v", len(stored), err)
			}
			// Nothing is read again: there is no such blob.
			layer, existed, err := store.Unpack(context.Background(), digestOf(plain), filepath.Join(dir, "absent"))
			if err != nil || existed || layer.Size != 3_000_007 || layer.TarSize != 0 {
				t.Fatalf("%+v, existed %v, %v", layer, existed, err)
			}
			stack, err := store.Stack([]string{digestOf(plain)})
			assert.NilError(t, err)
			if large := lstat(t, filepath.Join(stack.Lower[0], "large")); large.Size != 3_000_000 {
				t.Errorf("%d bytes are unpacked", large.Size)
			}
			assert.NilError(t, announced.Close())
			wantNothingBut(t, dir, filepath.Base(filepath.Dir(stack.Lower[0])), emptyName)
		})
	}
}

func TestAnUploadThatNobodyTakesOverLeavesNoLayer(t *testing.T) {
	store, dir := openStore(t)
	announced, _ := upload(t, store, dir)
	assert.NilError(t, announced.Take(context.Background(), bytes.NewReader(tarOf(t, entry{Name: "a"}))))
	assert.NilError(t, announced.Close())
	wantNothingBut(t, dir, emptyName)
	assert.Check(t, store.FindUpload(uploadID) == nil, "the upload is still found")
}

func TestAnUploadThatFailsLeavesNothing(t *testing.T) {
	plain := tarOf(t, entry{Name: "a", Linkname: strings.Repeat("content", 100_000)})
	cut := errors.New("the stream was cut")
	for name, c := range map[string]struct {
		source io.Reader
		want   string
	}{
		"cut":             {io.MultiReader(bytes.NewReader(plain[:blockSize+1000]), failing{cut}), cut.Error()},
		"cut in its gzip": {io.MultiReader(bytes.NewReader(gzipped(t, plain)[:500]), failing{cut}), cut.Error()},
		"truncated":       {bytes.NewReader(plain[:5000]), "unexpected EOF"},
		"truncated gzip":  {bytes.NewReader(gzipped(t, plain)[:500]), "unexpected EOF"},
		"garbage":         {bytes.NewReader(bytes.Repeat([]byte("garbage!"), 100_000)), "invalid tar header"},
		"hostile":         {bytes.NewReader(tarOf(t, entry{Name: "../escape"})), "../escape"},
		"xz":              {bytes.NewReader([]byte("\xfd7zXZ\x00rest")), "compressed with xz are not supported"},
		"bzip2":           {bytes.NewReader([]byte("BZh9rest")), "compressed with bzip2 are not supported"},
		"a broken tar in gzip": {
			bytes.NewReader(gzipped(t, append(bytes.Clone(plain[:512]), bytes.Repeat([]byte{1}, 1<<20)...))), "invalid tar header",
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, dir := openStore(t)
			announced, blob := upload(t, store, dir)
			err := announced.Take(context.Background(), c.source)
			assert.Check(t, is.ErrorContains(err, c.want))
			if _, told := announced.Taken(); told != err {
				t.Errorf("the caller is told %v", told)
			}
			if _, err := os.Lstat(blob); err == nil {
				t.Error("the blob is left")
			}
			wantNothingBut(t, dir, emptyName)
			assert.Check(t, announced.Close())
			wantNothingBut(t, filepath.Dir(dir), "layers")
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAnUploadIsTakenOnceAndNotOverAFile(t *testing.T) {
	store, dir := openStore(t)
	announced, blob := upload(t, store, dir)
	if _, err := store.OpenUpload(uploadID, blob); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("a second one of the same name: %v", err)
	}
	plain := tarOf(t, entry{Name: "a"})
	assert.NilError(t, announced.Take(context.Background(), bytes.NewReader(plain)))
	if err := announced.Take(context.Background(), bytes.NewReader(plain)); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a second time: %v", err)
	}
	assert.NilError(t, announced.Close())
	again, err := store.OpenUpload(uploadID, blob)
	assert.NilError(t, err)
	assert.Check(t, is.ErrorIs(again.Take(context.Background(), bytes.NewReader(plain)), os.ErrExist), "over a file")
	if stored, _ := os.ReadFile(blob); !bytes.Equal(stored, plain) {
		t.Error("the file that was there has changed")
	}
	assert.NilError(t, again.Close())
	wantNothingBut(t, dir, emptyName)
}

// TestASilentPeerHoldsUpNobodyWhoHasLeft: the end of Take makes the reader fail,
// like that of a call.
func TestASilentPeerHoldsUpNobodyWhoHasLeft(t *testing.T) {
	store, dir := openStore(t)
	announced, _ := upload(t, store, dir)
	source, peer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := announced.Take(context.Background(), source)
		source.Close()
		ended <- err
	}()
	_, err := peer.Write(tarOf(t, entry{Name: "a", Typeflag: tar.TypeDir})[:512])
	assert.NilError(t, err)
	assert.NilError(t, announced.Close())
	if err := <-ended; connect.CodeOf(err) != connect.CodeCanceled {
		t.Errorf("got %v", err)
	}
	wantNothingBut(t, filepath.Dir(dir), "layers")
}
