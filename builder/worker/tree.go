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
	"unicode/utf8"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// maxLinks bounds the links followed in one path, as the kernel does.
const maxLinks = 40

// maxAsked bounds the paths of one question to an agent, whose messages have a limit.
const maxAsked = 1000

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
	// Known regular files whose content is not here yet; a skeleton has none.
	unread map[string]bool
	times  directoryTimes
}

func newTree(w *Worker, image string, isSkeleton bool) *tree {
	return &tree{
		worker: w, image: image, isSkeleton: isSkeleton,
		builds: map[string]struct{}{}, known: map[string]bool{}, whole: map[string]bool{}, unread: map[string]bool{}, times: directoryTimes{},
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
	at, err := t.resolve(ctx, name)
	if err != nil || at == "" {
		return err
	}
	return t.fetchWhole(ctx, at)
}

// look returns a path's metadata, and in a skeleton fetches it without its content.
func (t *tree) look(ctx context.Context, name string) (fs.FileInfo, error) {
	_, info, err := t.lookAt(ctx, name)
	return info, err
}

// lookAt is look, and also returns where the path's links lead.
func (t *tree) lookAt(ctx context.Context, name string) (string, fs.FileInfo, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, err := t.resolve(ctx, name)
	if err != nil {
		return "", nil, err
	}
	if at == "" {
		return "", nil, fs.ErrNotExist
	}
	info, err := t.root.Lstat(relative(at))
	return at, info, err
}

// lookAll learns paths at once, but nothing behind links.
func (t *tree) lookAll(ctx context.Context, names []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.open(); err != nil {
		return err
	}
	var paths []string
	for _, name := range names {
		paths = append(paths, withParents(path.Clean("/"+name))...)
	}
	return t.learn(ctx, paths)
}

// withParents returns the paths on the way to a clean one, and that.
func withParents(name string) []string {
	paths := []string{"/"}
	for at, each := range name {
		if each == '/' && at > 0 {
			paths = append(paths, name[:at])
		}
	}
	if name != "/" {
		paths = append(paths, name)
	}
	return paths
}

// resolve opens the tree and follows a path's links; "" if there is nothing.
func (t *tree) resolve(ctx context.Context, name string) (string, error) {
	if err := t.open(); err != nil {
		return "", err
	}
	for range maxLinks {
		at, next, err := t.walk(ctx, name)
		if err != nil || next == "" {
			return at, err
		}
		name = next
	}
	return "", fmt.Errorf("%s: too many levels of symbolic links", name)
}

// walk learns the elements of a path, and follows it up to its first link. A file at its end is read, unless the tree is
// a skeleton.
//
// It returns the path as far as it got, and after a link the path that results from it; "" if the path does not exist.
func (t *tree) walk(ctx context.Context, name string) (at, next string, err error) {
	at = "/"
	clean := path.Clean("/" + name)
	if err := refuseLong(clean); err != nil {
		return "", "", err
	}
	paths := withParents(clean)
	if err := t.learn(ctx, paths); err != nil {
		return "", "", err
	}
	for _, at = range paths[1:] {
		if t.unread[at] {
			if at != clean {
				return "", "", nil
			}
			if err := t.read(ctx, at); err != nil {
				return "", "", err
			}
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
			return at, path.Join("/", target, clean[len(at):]), nil
		}
		if !info.IsDir() && at != clean {
			return "", "", nil
		}
	}
	return at, "", nil
}

// learn places the entries of paths, each of which comes after its parents unless these are known. What is beneath
// anything but a directory is left out, and so is the content of files. Names that are not UTF-8
// are left out, too: a question cannot have them, and a layer replaces what has such a name.
func (t *tree) learn(ctx context.Context, paths []string) error {
	var wanted []string
	isWanted := map[string]bool{}
	for _, at := range paths {
		parent := path.Dir(at)
		if isWanted[at] || t.known[at] || t.isBeneathWhole(at) || !utf8.ValidString(at) {
			continue
		}
		if at != "/" && !isWanted[parent] && !t.isDirectory(parent) {
			continue
		}
		wanted = append(wanted, at)
		isWanted[at] = true
	}
	if len(wanted) == 0 || t.image == "" {
		return nil
	}
	id, err := t.reader(ctx)
	if err != nil {
		return err
	}
	for asked := range slices.Chunk(wanted, maxAsked) {
		err := t.worker.backend.ReadEntries(ctx, id, asked, func(archive *tar.Reader) error {
			return eachEntry(archive, func(header *tar.Header) error {
				at := path.Clean("/" + header.Name)
				if !isWanted[at] {
					return fmt.Errorf("the backend sent %s, for which it was not asked: it may be of an earlier version", header.Name)
				}
				if at != "/" && !t.isDirectory(path.Dir(at)) {
					return nil
				}
				if header.Typeflag == tar.TypeReg && !t.isSkeleton {
					t.unread[at] = true
					return nil
				}
				return t.place(at, header, nil)
			})
		})
		if err != nil {
			return backend.Plain(err)
		}
		for _, at := range asked {
			t.known[at] = true
		}
	}
	return nil
}

// isDirectory reports whether a path has been placed as a directory.
func (t *tree) isDirectory(at string) bool {
	_, ok := t.times[relative(at)]
	return ok
}

// read fetches the content of a known file.
func (t *tree) read(ctx context.Context, at string) error {
	id, err := t.reader(ctx)
	if err != nil {
		return err
	}
	err = t.worker.backend.ReadArchive(ctx, id, at, func(archive *tar.Reader) error {
		header, err := archive.Next()
		if err != nil {
			return err
		}
		return t.place(at, header, archive)
	})
	if err != nil {
		return backend.Plain(err)
	}
	delete(t.unread, at)
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
	if err != nil || t.isBeneathWhole(at) || t.image == "" {
		return err
	}
	if !info.IsDir() {
		return t.times.restoreAbove(t.root, relative(at))
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
	return t.times.restore(t.root, relative(at))
}

func (t *tree) unpack(at string, archive *tar.Reader) error {
	return eachEntry(archive, func(header *tar.Header) error {
		name := inTree(at, header.Name)
		if t.known[name] && !t.unread[name] && header.Typeflag != tar.TypeDir && !t.isSkeleton {
			return nil
		}
		if header.Typeflag == tar.TypeLink {
			header.Linkname = inTree(at, header.Linkname)
		}
		if err := t.place(name, header, archive); err != nil {
			return err
		}
		t.known[name] = true
		delete(t.unread, name)
		return nil
	})
}

// eachEntry calls do for each entry until the archive ends, or do fails.
func eachEntry(archive *tar.Reader, do func(header *tar.Header) error) error {
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(header); err != nil {
			return err
		}
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
