package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

func root(t testing.TB) (*Root, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, dir
}

func TestATreeComesBackAsItWasPut(t *testing.T) {
	r, dir := root(t)
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o751); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("content"), 0o4755)
	os.Symlink("/etc/passwd", filepath.Join(dir, "a/link"))
	tree, err := r.Get("a")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var out bytes.Buffer
	if err := tree.WriteTar(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	var names []string
	reader := tar.NewReader(bytes.NewReader(out.Bytes()))
	for {
		h, err := reader.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	t.Log(names)
	os.Mkdir(filepath.Join(dir, "dest"), 0o755)
	if err := r.Put(context.Background(), "/dest", &out, PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "dest/a/b/f")); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}
