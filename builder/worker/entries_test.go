package worker

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tarOf writes entries, whose content is as long as they say.
func tarOf(t *testing.T, headers ...*tar.Header) *tar.Reader {
	t.Helper()
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, header := range headers {
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(make([]byte, header.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return tar.NewReader(&buffer)
}

func file(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX}
}

var wide = ContextLimits{Bytes: 1 << 20, Entries: 100}

func TestAContextIsUnpackedWithinItsLimits(t *testing.T) {
	for _, each := range []struct {
		limits  ContextLimits
		headers []*tar.Header
		refusal string
	}{
		{ContextLimits{Bytes: 20, Entries: 2}, []*tar.Header{file("a", 10), file("b", 10)}, ""},
		{ContextLimits{Bytes: 19, Entries: 2}, []*tar.Header{file("a", 10), file("b", 10)}, "larger than 19 bytes, the limit of builder.context_size"},
		{ContextLimits{Bytes: 20, Entries: 1}, []*tar.Header{file("a", 10), file("b", 10)}, "more than 1 entries"},
	} {
		dir := t.TempDir()
		err := unpackContext(dir, tarOf(t, each.headers...), each.limits)
		switch {
		case each.refusal == "" && err != nil:
			t.Errorf("refused: %v", err)
		case each.refusal != "" && (err == nil || !strings.Contains(err.Error(), each.refusal)):
			t.Errorf("%q instead of %q", err, each.refusal)
		}
		if _, err := os.Lstat(filepath.Join(dir, "b")); (err == nil) != (each.refusal == "") {
			t.Errorf("b: %v", err)
		}
	}
}

func TestAnEntryOfManyDirectoriesIsRefused(t *testing.T) {
	dir := t.TempDir()
	err := unpackContext(dir, tarOf(t, file(strings.Repeat("d/", 3000)+"f", 0)), wide)
	if !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("answered %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestAContextStaysWithinItsDirectory(t *testing.T) {
	outside := t.TempDir()
	link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "out", Linkname: outside}
	for name, headers := range map[string][]*tar.Header{
		"upwards":        {file("../up", 1)},
		"through a link": {link, file("out/planted", 1)},
		"a hard link":    {link, {Typeflag: tar.TypeLink, Name: "hard", Linkname: "out/secret"}},
		"a device":       {{Typeflag: tar.TypeChar, Name: "device", Devmajor: 1, Devminor: 3}},
	} {
		if err := unpackContext(t.TempDir(), tarOf(t, headers...), wide); err == nil {
			t.Errorf("%s: unpacked", name)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}
