package worker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/continuity/sysx"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/builder/backend"
)

// mark is what shows whether an entry of a skeleton has changed.
type mark struct {
	inode    uint64
	mode     fs.FileMode
	uid, gid uint32
	size     int64
	mtime    time.Time
	ctime    unix.Timespec
	isDir    bool
}

func markOf(info fs.FileInfo) mark {
	stat := info.Sys().(*syscall.Stat_t)
	made := mark{
		inode: stat.Ino, mode: info.Mode(), uid: stat.Uid, gid: stat.Gid, mtime: info.ModTime(), isDir: info.IsDir(),
	}
	if !made.isDir {
		made.size = info.Size()
		made.ctime = unix.Timespec{Sec: stat.Ctim.Sec, Nsec: stat.Ctim.Nsec}
	}
	return made
}

// marksOf returns the marks of a directory's content by relative path.
func marksOf(dir string) (map[string]mark, error) {
	found := map[string]mark{}
	err := filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		found[strings.TrimPrefix(file, dir)] = markOf(info)
		return nil
	})
	return found, err
}

// layerContent is the difference between a directory, or a path beneath it ("": all), and earlier marks. It can be
// written repeatedly, with the same result unless the files change.
type layerContent struct {
	dir     string
	before  map[string]mark
	beneath string
}

// keptBytes is the size up to which a measured layer is kept in memory.
const keptBytes = 4 << 20

// measured computes a layer's digest and size. A small layer is kept, a larger one is written again to its destination.
func measured(content *layerContent) (*backend.Layer, error) {
	hash := sha256.New()
	kept := &beginning{limit: keptBytes}
	size, err := content.WriteTo(io.MultiWriter(hash, kept))
	if err != nil {
		return nil, err
	}
	layer := &backend.Layer{DiffID: digest.NewDigest(digest.SHA256, hash), Size: size, Content: content}
	if size <= keptBytes {
		layer.Content = bytes.NewReader(kept.kept.Bytes())
	}
	return layer, nil
}

// WriteTo writes the layer's tar.
func (c *layerContent) WriteTo(out io.Writer) (int64, error) {
	size := &counter{to: out}
	buffered := bufio.NewWriterSize(size, 1<<20)
	archive := tar.NewWriter(buffered)
	writer := &layerWriter{archive: archive, dir: c.dir, written: map[string]bool{}, links: map[uint64]string{}, buffer: make([]byte, copyBytes)}
	// Whether each existing entry is a directory.
	after := map[string]bool{}
	err := filepath.WalkDir(c.dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(file, c.dir)
		after[name] = entry.IsDir()
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if name != c.beneath && !strings.HasPrefix(name, c.beneath+"/") {
			return nil
		}
		if known, ok := c.before[name]; name == "" || (ok && known == markOf(info)) {
			return nil
		}
		return writer.add(name)
	})
	if err != nil {
		return 0, err
	}
	// Sorted, so that the same changes make the same layer.
	for _, name := range slices.Sorted(maps.Keys(c.before)) {
		// An entry removed with its directory needs no whiteout of its own.
		_, isThere := after[name]
		if parent := strings.TrimSuffix(path.Dir(name), "/"); !isThere && after[parent] {
			if err := writer.remove(name); err != nil {
				return 0, err
			}
		}
	}
	if err := archive.Close(); err != nil {
		return 0, err
	}
	err = buffered.Flush()
	return size.bytes, err
}

// counter counts the bytes written through it.
type counter struct {
	to    io.Writer
	bytes int64
}

func (c *counter) Write(data []byte) (int, error) {
	n, err := c.to.Write(data)
	c.bytes += int64(n)
	return n, err
}

// copyBytes is the read size of files.
const copyBytes = 256 << 10

// layerWriter writes each entry after its parent directories.
type layerWriter struct {
	archive *tar.Writer
	dir     string
	written map[string]bool
	links   map[uint64]string
	buffer  []byte
}

func (w *layerWriter) add(name string) error {
	if name == "" || name == "/" || w.written[name] {
		return nil
	}
	if err := w.add(path.Dir(name)); err != nil {
		return err
	}
	w.written[name] = true
	file := filepath.Join(w.dir, name)
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket != 0 { // tar has no sockets
		return nil
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = strings.TrimPrefix(name, "/")
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uname, header.Gname = "", ""
	header.Format = tar.FormatPAX
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	stat := info.Sys().(*syscall.Stat_t)
	if info.Mode().IsRegular() && stat.Nlink > 1 {
		if first, ok := w.links[stat.Ino]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
			return w.archive.WriteHeader(header)
		}
		w.links[stat.Ino] = header.Name
	}
	if target == "" {
		if err := addXattrs(header, file); err != nil {
			return err
		}
	}
	if err := w.archive.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	content, err := os.Open(file)
	if err != nil {
		return err
	}
	defer content.Close()
	_, err = io.CopyBuffer(w.archive, struct{ io.Reader }{content}, w.buffer)
	return err
}

// remove writes a whiteout.
func (w *layerWriter) remove(name string) error {
	if err := w.add(path.Dir(name)); err != nil {
		return err
	}
	whiteout := path.Join(path.Dir(name), ".wh."+path.Base(name))
	return w.archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(whiteout, "/"), Format: tar.FormatPAX})
}

func addXattrs(header *tar.Header, file string) error {
	names, err := sysx.LListxattr(file)
	if err != nil {
		return nil
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" {
			continue
		}
		value, err := sysx.LGetxattr(file, name)
		if err != nil {
			return err
		}
		if header.PAXRecords == nil {
			header.PAXRecords = map[string]string{}
		}
		header.PAXRecords[xattrPrefix+name] = string(value)
	}
	return nil
}
