package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/levels"
)

// ErrTooMany means that a file system has more files than an inventory may hold.
var ErrTooMany = errors.New("too many files for an inventory")

// Bounds list the parts of a root file system that are not the container's own.
// Paths are absolute and clean.
type Bounds struct {
	Mounts map[string]bool // are not entered; a directory shows empty, a file not at all
	Hidden map[string]bool // do not show, nor anything beneath them
}

// hidesIn reports whether a name in a directory is hidden. Few are, so the suffix
// check saves most joins.
func (b Bounds) hidesIn(directory, base string) bool {
	for hidden := range b.Hidden {
		if strings.HasSuffix(hidden, base) && hidden == path.Join(directory, base) {
			return true
		}
	}
	return false
}

// MountsOf parses the mount points, except the root, from a file such as
// /proc/self/mountinfo (proc(5)).
func MountsOf(mountinfo []byte) map[string]bool {
	mounts := map[string]bool{}
	for line := range bytes.Lines(mountinfo) {
		fields := strings.Fields(string(line))
		if len(fields) < 5 {
			continue
		}
		if point := unescapeMount(fields[4]); point != "/" {
			mounts[point] = true
		}
	}
	return mounts
}

// unescapeMount decodes the kernel's octal escapes for blanks and backslashes.
func unescapeMount(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}

// Inventory is the content of a root file system at one moment. A file costs
// about 60 bytes plus its name.
type Inventory struct {
	names       []byte
	items       []item // of each directory together, in the order of their names
	directories []span // the first is the root
}

// item is one file.
type item struct {
	name      uint32 // where in names
	mode      uint32
	uid, gid  uint32
	size      int64 // of a device: its number
	seconds   int64 // of the modification time
	changed   int64 // the time of the inode's last change, Unix ns
	nanos     int32 // of the modification time
	directory int32 // in directories; -1: not a directory, or not entered
	nameLen   uint8
}

// span is the range of a directory's items.
type span struct{ first, end int32 }

// TakeInventory lists a root file system of at most limit files (else
// ErrTooMany). Files that the caller may not read are left out.
func TakeInventory(ctx context.Context, root *os.File, bounds Bounds, limit int) (*Inventory, error) {
	taker := &taker{ctx: ctx, bounds: bounds, limit: limit, inventory: &Inventory{}}
	if err := taker.directory(int(root.Fd()), "/", 0); err != nil {
		return nil, err
	}
	return taker.inventory, nil
}

// Files is how many files it holds.
func (i *Inventory) Files() int { return len(i.items) }

type taker struct {
	ctx       context.Context
	bounds    Bounds
	limit     int
	inventory *Inventory
}

// directory records an open directory's items, then descends: the items of one
// directory stay together.
func (t *taker) directory(fd int, name string, depth int) error {
	if err := t.ctx.Err(); err != nil {
		return context.Cause(t.ctx)
	}
	i := t.inventory
	index := len(i.directories)
	first := len(i.items)
	i.directories = append(i.directories, span{int32(first), int32(first)})
	leave, err := levels.Enter(name, depth, 1)
	if err != nil {
		return err
	}
	defer leave()
	if err := t.items(fd, name); err != nil {
		return err
	}
	end := len(i.items)
	i.directories[index].end = int32(end)
	for at := first; at < end; at++ {
		if i.items[at].mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		base := i.name(&i.items[at])
		below := path.Join(name, base)
		if t.bounds.Mounts[below] {
			continue
		}
		child, err := openDirectoryAt(fd, base)
		if isGone(err) || errors.Is(err, unix.EACCES) {
			continue
		}
		if err != nil {
			return pathError("open", below, err)
		}
		i.items[at].directory = int32(len(i.directories))
		err = t.directory(child, below, depth+1)
		unix.Close(child)
		if err != nil {
			return err
		}
	}
	return nil
}

// items records the items of one directory.
func (t *taker) items(fd int, name string) error {
	directory, err := openNames(fd)
	if err != nil {
		return pathError("read directory", name, err)
	}
	defer directory.Close()
	for {
		names, err := someNames(directory)
		if err != nil {
			return pathError("read directory", name, err)
		}
		if len(names) == 0 {
			break
		}
		if len(t.inventory.items)+len(names) > t.limit {
			return fmt.Errorf("the container's image has more than %d files: %w", t.limit, ErrTooMany)
		}
		for _, base := range names {
			var st unix.Stat_t
			if t.bounds.hidesIn(name, base) {
				continue
			}
			if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				if isGone(err) || errors.Is(err, unix.EACCES) {
					continue
				}
				return pathError("lstat", path.Join(name, base), err)
			}
			t.inventory.add(base, &st)
		}
	}
	i := t.inventory
	mine := i.items[i.directories[len(i.directories)-1].first:]
	slices.SortFunc(mine, func(a, b item) int { return bytes.Compare(i.nameOf(&a), i.nameOf(&b)) })
	return nil
}

func (i *Inventory) add(name string, st *unix.Stat_t) {
	size := st.Size
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		size = int64(st.Rdev)
	}
	i.items = append(i.items, item{
		name: uint32(min(len(i.names), math.MaxUint32)), nameLen: uint8(len(name)),
		mode: st.Mode, uid: st.Uid, gid: st.Gid, size: size,
		seconds: int64(st.Mtim.Sec), nanos: int32(st.Mtim.Nsec), changed: st.Ctim.Nano(), directory: -1,
	})
	i.names = append(i.names, name...)
}

func (i *Inventory) nameOf(it *item) []byte {
	return i.names[it.name : uint64(it.name)+uint64(it.nameLen)]
}

func (i *Inventory) name(it *item) string { return string(i.nameOf(it)) }

// list returns the items of a directory; nil if it was none.
func (i *Inventory) list(directory int32) []item {
	if directory < 0 {
		return nil
	}
	s := i.directories[directory]
	return i.items[s.first:s.end]
}

// find returns the index of a name in a directory's list; -1: not found.
func (i *Inventory) find(list []item, name string) int {
	at, found := slices.BinarySearchFunc(list, name, func(it item, name string) int { return strings.Compare(string(i.nameOf(&it)), name) })
	if !found {
		return -1
	}
	return at
}

func openDirectoryAt(fd int, name string) (int, error) {
	return unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// openEntry opens a directory's entry, of whatever kind, and reads its attributes.
// One that has vanished is ErrNotFound.
func openEntry(directory int, entry, name string, st *unix.Stat_t) (int, error) {
	fd, err := unix.Openat(directory, entry, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, pathError("open", name, err)
	}
	if err := unix.Fstat(fd, st); err != nil {
		_ = unix.Close(fd)
		return -1, pathError("lstat", name, err)
	}
	return fd, nil
}

// isGone reports whether a name vanished, or has become something else.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
