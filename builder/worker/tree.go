package worker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// maxLinks bounds the links followed in one path, as the kernel does.
const maxLinks = 40

// listedBytes is how much of a directory's archive is read in about the time that learning one entry takes.
const listedBytes = 64 << 10

// maxListedBytes bounds a listing, whose headers are held in memory.
const maxListedBytes = 128 << 20

// tree is a part of a state's files in a directory of this machine, fetched path by path. A skeleton has files without
// content: it shows an operation what exists, and the operation's changes in it become a layer.
type tree struct {
	worker     *Worker
	image      string
	isSkeleton bool

	mu        sync.Mutex
	isClosed  bool
	dir       string
	root      *os.Root
	container string
	// Builds that read through the container, by session.
	builds map[string]struct{}
	// Known paths, including those that do not exist; `whole` ones are complete with everything beneath.
	known map[string]bool
	whole map[string]bool
	times directoryTimes
}

func newTree(w *Worker, image string, isSkeleton bool) *tree {
	return &tree{
		worker: w, image: image, isSkeleton: isSkeleton,
		builds: map[string]struct{}{}, known: map[string]bool{}, whole: map[string]bool{}, times: directoryTimes{},
	}
}

// open creates the directory. Image "" means a state without files.
func (t *tree) open() error {
	if t.isClosed {
		return errClosed
	}
	if t.root != nil {
		return nil
	}
	dir, err := os.MkdirTemp(t.worker.scratch, "tree-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	t.dir = dir
	t.root, err = os.OpenRoot(dir)
	return err
}

// errClosed fails operations of a build that has ended.
var errClosed = errors.New("the files were let go")

// close removes the directory at once, and in the background the container through which it was read. It does not wait
// for an operation of a cancelled build that still reads, since that may wait for the backend.
func (t *tree) close() error {
	if t.mu.TryLock() {
		return t.closeLocked()
	}
	go func() {
		t.mu.Lock()
		Warn("let go of files", t.closeLocked())
	}()
	return nil
}

func (t *tree) closeLocked() error {
	defer t.mu.Unlock()
	t.isClosed = true
	if t.container != "" {
		t.worker.removeBehind(slices.Collect(maps.Keys(t.builds)), t.container)
		t.container = ""
	}
	if t.root == nil {
		return nil
	}
	err := errors.Join(t.root.Close(), os.RemoveAll(t.dir))
	t.root = nil
	return err
}

// reader returns the container through which the state's files are read; it is never started.
func (t *tree) reader(ctx context.Context) (string, error) {
	if t.container == "" {
		id, _, err := t.worker.backend.CreateContainer(ctx, &backendv1.ContainerConfig{
			Image: t.image, Cmd: &backendv1.StringList{Values: []string{"/"}},
		}, &backendv1.HostConfig{})
		if err != nil {
			return "", backend.Plain(err)
		}
		t.container = id
	}
	builds, _ := ctx.Value(buildsOfContext{}).([]string)
	for _, each := range builds {
		t.builds[each] = struct{}{}
	}
	return t.container, nil
}

// fetch fetches a path recursively, including links on the way and at the path. A missing path is not an error: its
// reader will notice.
func (t *tree) fetch(ctx context.Context, name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.open(); err != nil {
		return err
	}
	for range maxLinks {
		at, next, err := t.walk(ctx, name)
		if err != nil || at == "" {
			return err
		}
		if next == "" {
			return t.fetchWhole(ctx, at)
		}
		name = next
	}
	return fmt.Errorf("%s: too many levels of symbolic links", name)
}

// look returns a path's metadata, and fetches it without its content.
func (t *tree) look(ctx context.Context, name string) (fs.FileInfo, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.open(); err != nil {
		return nil, err
	}
	for range maxLinks {
		at, next, err := t.walk(ctx, name)
		if err != nil {
			return nil, err
		}
		if at == "" {
			return nil, fs.ErrNotExist
		}
		if next == "" {
			return t.root.Lstat(relative(at))
		}
		name = next
	}
	return nil, fmt.Errorf("%s: too many levels of symbolic links", name)
}

// walk learns the elements of a path up to its first link.
//
// It returns the path as far as it got, and after a link the path that results from it; "" if the path does not exist.
func (t *tree) walk(ctx context.Context, name string) (at, next string, err error) {
	at = "/"
	rest := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	if rest[0] == "" {
		rest = nil
	}
	if err := t.learn(ctx, "/"); err != nil {
		return "", "", err
	}
	for i, element := range rest {
		at = path.Join(at, element)
		if err := t.learn(ctx, at); err != nil {
			return "", "", err
		}
		info, err := t.root.Lstat(relative(at))
		if errors.Is(err, fs.ErrNotExist) {
			return "", "", nil
		}
		if err != nil {
			return "", "", err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := t.root.Readlink(relative(at))
			if err != nil {
				return "", "", err
			}
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(at), target)
			}
			return at, path.Join(append([]string{"/", target}, rest[i+1:]...)...), nil
		}
		if !info.IsDir() && i < len(rest)-1 {
			return "", "", nil
		}
	}
	return at, "", nil
}

// learn fetches one entry. Its parents are known directories.
func (t *tree) learn(ctx context.Context, at string) error {
	if t.known[at] || t.isBeneathWhole(at) || t.image == "" {
		return nil
	}
	id, err := t.reader(ctx)
	if err != nil {
		return err
	}
	err = t.worker.backend.ReadArchive(ctx, id, at, func(archive *tar.Reader) error {
		header, err := archive.Next()
		if err != nil {
			return err
		}
		var content io.Reader = archive
		if t.isSkeleton {
			content = nil
		}
		return t.place(at, header, content)
	})
	if err != nil && !backend.Is(err, connect.CodeNotFound) {
		return backend.Plain(err)
	}
	t.known[at] = true
	return nil
}

func (t *tree) isBeneathWhole(at string) bool {
	for ; ; at = path.Dir(at) {
		if t.whole[at] {
			return true
		}
		if at == "/" {
			return false
		}
	}
}

func (t *tree) fetchWhole(ctx context.Context, at string) error {
	info, err := t.root.Lstat(relative(at))
	if err != nil || !info.IsDir() || t.isBeneathWhole(at) || t.image == "" {
		return err
	}
	id, err := t.reader(ctx)
	if err != nil {
		return err
	}
	err = t.worker.backend.ReadArchive(ctx, id, at, func(archive *tar.Reader) error { return t.unpack(at, archive) })
	if err != nil {
		return backend.Plain(err)
	}
	t.whole[at] = true
	return t.times.restore(t.root)
}

// errListedEnough ends the listing of a directory that is too large.
var errListedEnough = errors.New("listed enough")

// listAt learns all entries of a directory whose archive is at most a limit in bytes; those of a larger one are learned one
// by one.
func (t *tree) listAt(ctx context.Context, name string, limit int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.open(); err != nil {
		return err
	}
	at, next, err := t.walk(ctx, name)
	if err != nil || at == "" || next != "" {
		return err
	}
	if t.isBeneathWhole(at) || t.image == "" {
		return nil
	}
	id, err := t.reader(ctx)
	if err != nil {
		return err
	}
	type entry struct {
		name   string
		header *tar.Header
	}
	var entries []entry
	err = t.worker.backend.ReadArchive(ctx, id, at, func(archive *tar.Reader) error {
		var total int64
		entries = nil
		for {
			header, err := archive.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if total += header.Size + 512; total > limit {
				return errListedEnough
			}
			entries = append(entries, entry{inTree(at, header.Name), header})
		}
	})
	if errors.Is(err, errListedEnough) {
		return nil
	}
	if err != nil {
		return backend.Plain(err)
	}
	for _, each := range entries {
		if t.known[each.name] {
			continue
		}
		if err := t.place(each.name, each.header, nil); err != nil {
			return err
		}
		t.known[each.name] = true
	}
	t.whole[at] = true
	return nil
}

func (t *tree) unpack(at string, archive *tar.Reader) error {
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := inTree(at, header.Name)
		if t.known[name] && header.Typeflag != tar.TypeDir && !t.isSkeleton {
			continue
		}
		if header.Typeflag == tar.TypeLink {
			header.Linkname = inTree(at, header.Linkname)
		}
		if err := t.place(name, header, archive); err != nil {
			return err
		}
		t.known[name] = true
	}
}

// inTree returns the path of an entry in the archive of a path, whose top entry is the path's last element.
func inTree(at, name string) string {
	name = path.Clean("/" + name)
	if at == "/" {
		return name
	}
	_, beneath, _ := strings.Cut(name[1:], "/")
	return path.Join(at, beneath)
}

// place creates an entry. Without content a file stays empty.
func (t *tree) place(at string, header *tar.Header, content io.Reader) error {
	name := relative(at)
	if t.isSkeleton && header.Typeflag != tar.TypeDir && header.Typeflag != tar.TypeSymlink {
		copied := *header
		copied.Typeflag, copied.Size = tar.TypeReg, 0
		return placeEntry(t.root, t.times, name, &copied, nil)
	}
	return placeEntry(t.root, t.times, name, header, content)
}

// relative converts a path of a state to a name beneath an os.Root.
func relative(at string) string {
	return filepath.Join(".", path.Clean("/"+at))
}
