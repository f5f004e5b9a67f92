package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// newRoot makes a container root in a directory that holds more than the root.
func newRoot(t testing.TB) (r *Root, dir, outside string) {
	t.Helper()
	outside = t.TempDir()
	dir = filepath.Join(outside, "root")
	must(t, os.Mkdir(dir, 0o755))
	r = openRoot(t, dir)
	t.Cleanup(func() { r.Close() })
	return r, dir, outside
}

func openRoot(t testing.TB, dir string) *Root {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	return NewRoot(os.NewFile(uintptr(fd), dir))
}

func must(t testing.TB, err error) {
	t.Helper()
	assert.NilError(t, err)
}

// plant makes files below dir: a name that ends in "/" is a directory, content
// that begins with "->" a symlink.
func plant(t testing.TB, dir string, files ...[2]string) {
	t.Helper()
	for _, f := range files {
		name := filepath.Join(dir, f[0])
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		switch {
		case f[0][len(f[0])-1] == '/':
			must(t, os.MkdirAll(name, 0o755))
		case len(f[1]) > 2 && f[1][:2] == "->":
			must(t, os.Symlink(f[1][2:], name))
		default:
			must(t, os.WriteFile(name, []byte(f[1]), 0o644))
		}
	}
}

func content(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return string(b)
}

func get(t testing.TB, r *Root, name string) []byte {
	t.Helper()
	tree, err := r.Get(name)
	must(t, err)
	defer tree.Close()
	var out bytes.Buffer
	must(t, tree.WriteTar(t.Context(), &out))
	return out.Bytes()
}

// headers lists a tar stream, and fails if it is incomplete.
func headers(t testing.TB, stream []byte) []*tar.Header {
	t.Helper()
	var all []*tar.Header
	in := tar.NewReader(bytes.NewReader(stream))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all = append(all, h)
	}
}

func names(t testing.TB, stream []byte) []string {
	t.Helper()
	var all []string
	for _, h := range headers(t, stream) {
		all = append(all, h.Name)
	}
	return all
}

// member is one entry to pack.
type member struct {
	header  tar.Header
	content string
}

func file(name, text string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Uid: os.Getuid(), Gid: os.Getgid()}, text}
}

func directory(name string) member {
	return member{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, Uid: os.Getuid(), Gid: os.Getgid()}, ""}
}

func link(kind byte, name, target string) member {
	return member{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o644, Uid: os.Getuid(), Gid: os.Getgid()}, ""}
}

func pack(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := m.header
		h.Size = int64(len(m.content))
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, m.content)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

func put(t testing.TB, r *Root, dir string, stream []byte, options PutOptions) error {
	t.Helper()
	return r.Put(t.Context(), dir, bytes.NewReader(stream), options)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}
