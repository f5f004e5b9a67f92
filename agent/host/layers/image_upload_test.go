package layers

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// imageUpload announces an archive, and collects its entries until the end.
func imageUpload(t testing.TB) (upload *ImageUpload, dir string, entries <-chan []*hostv1.ArchiveEntry) {
	t.Helper()
	store, layers := openStore(t)
	dir = filepath.Join(filepath.Dir(layers), "archive")
	upload, err := store.OpenImageUpload("id", dir)
	assert.NilError(t, err)
	assert.Check(t, store.FindImageUpload("id") == upload, "it is not found")
	all := make(chan []*hostv1.ArchiveEntry, 1)
	go func() {
		var taken []*hostv1.ArchiveEntry
		for entry := range upload.Entries {
			taken = append(taken, entry)
		}
		all <- taken
	}()
	return upload, dir, all
}

// closed closes an upload and checks that nothing remains.
func closed(t testing.TB, upload *ImageUpload, dir string) {
	t.Helper()
	assert.Check(t, upload.Close())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
}

func imageTar(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, header := range headers {
		content := ""
		if header.Typeflag == tar.TypeReg {
			content, header.Linkname = header.Linkname, ""
			header.Size = int64(len(content))
		}
		assert.NilError(t, w.WriteHeader(header))
		_, err := io.WriteString(w, content)
		assert.NilError(t, err)
	}
	assert.NilError(t, w.Close())
	return out.Bytes()
}

func TestTheFilesOfAnArchiveAreStoredAndMeasured(t *testing.T) {
	large := strings.Repeat("0123456789", 100_000)
	plain := imageTar(t,
		&tar.Header{Name: "blobs/", Typeflag: tar.TypeDir},
		&tar.Header{Name: "../../escaped", Typeflag: tar.TypeReg, Linkname: large},
		&tar.Header{Name: "empty", Typeflag: tar.TypeReg},
		&tar.Header{Name: "soft", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		&tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "empty"},
		&tar.Header{Name: "fifo", Typeflag: tar.TypeFifo},
	)
	padded := append(gzipped(t, plain), make([]byte, 1<<20)...)
	for _, archive := range [][]byte{plain, gzipped(t, plain), padded} {
		upload, dir, all := imageUpload(t)
		assert.NilError(t, upload.Take(t.Context(), bytes.NewReader(archive)))
		if err := upload.Take(t.Context(), bytes.NewReader(archive)); connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("taken again: %v", err)
		}
		entries := <-all
		if upload.Err() != nil || len(entries) != 6 {
			t.Fatalf("%d entries, %v", len(entries), upload.Err())
		}
		stored := entries[1].GetFile()
		content, err := os.ReadFile(stored.GetPath())
		if err != nil || string(content) != large || filepath.Dir(stored.Path) != dir || stored.Size != uint64(len(large)) ||
			stored.Digest != layerPart(t, nil, content).DiffId {
			t.Errorf("%v, %v", stored, err)
		}
		if entries[0].GetFolder() == nil || entries[2].GetFile().GetSize() != 0 || entries[3].GetSymlink() != "/etc/passwd" ||
			entries[4].GetHardLink() != "empty" || entries[5].Kind != nil {
			t.Errorf("%v", entries)
		}
		closed(t, upload, dir)
	}
}

func TestNamesInAnArchiveMayBeAnyBytes(t *testing.T) {
	upload, dir, all := imageUpload(t)
	archive := imageTar(t,
		&tar.Header{Name: "caf\xe9", Typeflag: tar.TypeReg, Linkname: "content", Format: tar.FormatGNU},
		&tar.Header{Name: "soft", Typeflag: tar.TypeSymlink, Linkname: "caf\xe9", Format: tar.FormatGNU},
		&tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "caf\xe9", Format: tar.FormatGNU},
	)
	assert.NilError(t, upload.Take(t.Context(), bytes.NewReader(archive)))
	for _, entry := range <-all {
		if text := entry.Name + entry.GetSymlink() + entry.GetHardLink(); !strings.Contains(text, "caf\xe9") {
			t.Errorf("%q", text)
		}
	}
	closed(t, upload, dir)
}

func TestNothingIsLeftOfAnArchiveThatIsCutOrBroken(t *testing.T) {
	whole := imageTar(t, &tar.Header{Name: "a", Typeflag: tar.TypeReg, Linkname: strings.Repeat("x", 10_000)})
	for message, archive := range map[string][]byte{
		"unexpected EOF":                  whole[:5000],
		"archive/tar: invalid tar header": bytes.Repeat([]byte("no tar "), 1000),
		"archives compressed with xz are": {0xfd, '7', 'z', 'X', 'Z', 0x00},
		"with sparse files are not":       sparseTar(1<<60, 0, ""),
	} {
		upload, dir, all := imageUpload(t)
		err := upload.Take(t.Context(), bytes.NewReader(archive))
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", message, err)
		}
		<-all
		closed(t, upload, dir)
	}
}

func TestAnArchiveThatNobodyWantsAnyMoreEndsThoughItsSenderIsSilent(t *testing.T) {
	upload, dir, _ := imageUpload(t)
	reader, writer := io.Pipe()
	taken := make(chan error, 1)
	go func() {
		err := upload.Take(t.Context(), reader)
		reader.Close() // as the connection is
		taken <- err
	}()
	_, err := writer.Write(make([]byte, 1))
	assert.NilError(t, err)
	closed(t, upload, dir)
	if err := <-taken; connect.CodeOf(err) != connect.CodeCanceled {
		t.Error(err)
	}
}
