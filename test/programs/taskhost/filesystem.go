package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// nobody is the real user ID of a server whose effective user is root: the
// library gives what root makes to whoever asked for it.
const nobody = 65534

// serveFileSystem shows a directory at a mount point as an EFS access point
// with a forced user does: every operation, of any caller, is this process's,
// and this process is that user. It may do what that user may, and owns what it
// makes. It prints "ready" once the mount is there and serves until it is
// unmounted.
func serveFileSystem(args []string) error {
	flags := flag.NewFlagSet("filesystem", flag.ContinueOnError)
	uid := flags.Int("uid", 0, "the forced user")
	gid := flags.Int("gid", 0, "its group")
	groups := flags.String("groups", "", "its other groups, with commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("usage: taskhost filesystem [FLAG]... DIRECTORY MOUNTPOINT")
	}
	supplementary, err := parseGroups(*groups)
	if err != nil {
		return err
	}
	device, err := mountFuse(flags.Arg(1), "efs", "")
	if err != nil {
		return err
	}
	if err := become(flags.Arg(0), *uid, *gid, supplementary); err != nil {
		return err
	}
	return serve(device)
}

// mountFuse mounts a file system of a kind that this process is to serve.
func mountFuse(mountPoint, kind, more string) (device int, err error) {
	device, err = syscall.Open("/dev/fuse", syscall.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other%s", device, more)
	if err := syscall.Mount(kind, mountPoint, "fuse."+kind, 0, options); err != nil {
		return 0, fmt.Errorf("mount %s: %w", mountPoint, err)
	}
	return device, nil
}

// become makes this process the forced user's, in the directory, to which the
// user might not find the way.
func become(directory string, uid, gid int, groups []int) error {
	if err := os.Chdir(directory); err != nil {
		return err
	}
	syscall.Umask(0)
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	real := uid
	if uid == 0 {
		real = nobody
	}
	if err := syscall.Setresuid(real, uid, uid); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	return nil
}

func serve(device int) error {
	loopback, err := fs.NewLoopbackRoot(".")
	if err != nil {
		return err
	}
	data := loopback.(*fs.LoopbackNode).RootData
	data.NewNode = func(root *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: root}}
	}
	root := &node{LoopbackNode: fs.LoopbackNode{RootData: data}}
	data.RootNode = root
	return serveNodes(device, root, true)
}

// serveNodes serves a mounted file system until it is unmounted.
func serveNodes(device int, root fs.InodeEmbedder, locks bool) error {
	// Other tasks change the same files: nothing may be remembered.
	var never time.Duration
	server, err := fs.Mount(fmt.Sprintf("/dev/fd/%d", device), root, &fs.Options{
		EntryTimeout:    &never,
		AttrTimeout:     &never,
		NegativeTimeout: &never,
		NullPermissions: true,
		MountOptions:    fuse.MountOptions{EnableLocks: locks, MaxWrite: 1 << 20},
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	server.Wait()
	return nil
}

// node is a file as the forced user has it.
type node struct {
	fs.LoopbackNode
}

// Access is asked by the forced user, not by the caller.
func (n *node) Access(_ context.Context, mask uint32) syscall.Errno {
	return fs.ToErrno(unix.Faccessat(unix.AT_FDCWD, n.file(), mask, unix.AT_EACCESS))
}

// Setattr does what was asked in full or tells why not, also by a descriptor.
func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno := n.setOwner(ctx, f, in); errno != 0 {
		return errno
	}
	rest := *in
	rest.Valid &^= fuse.FATTR_UID | fuse.FATTR_GID
	if rest.Valid&fuse.FATTR_SIZE != 0 && f != nil {
		if setter, ok := f.(fs.FileSetattrer); ok {
			size := rest
			size.Valid = fuse.FATTR_SIZE
			if errno := setter.Setattr(ctx, &size, out); errno != 0 {
				return errno
			}
			rest.Valid &^= fuse.FATTR_SIZE
		}
	}
	if rest.Valid&(fuse.FATTR_MODE|fuse.FATTR_SIZE|fuse.FATTR_ATIME|fuse.FATTR_MTIME) == 0 {
		return n.Getattr(ctx, f, out)
	}
	return n.LoopbackNode.Setattr(ctx, nil, &rest, out)
}

func (n *node) setOwner(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn) syscall.Errno {
	uid, setsUID := in.GetUID()
	gid, setsGID := in.GetGID()
	if !setsUID && !setsGID {
		return 0
	}
	var now fuse.AttrOut
	if errno := n.Getattr(ctx, f, &now); errno != 0 {
		return errno
	}
	if !setsUID {
		uid = now.Uid
	}
	if !setsGID {
		gid = now.Gid
	}
	if uid == now.Uid && gid == now.Gid {
		return 0
	}
	return syscall.EPERM
}

// file is the node's path from the working directory.
func (n *node) file() string {
	return path.Join(".", n.Path(n.Root()))
}

func parseGroups(text string) ([]int, error) {
	groups := []int{}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		group, err := strconv.Atoi(part)
		if err != nil {
			return nil, err
		}
		groups = append(groups, group)
	}
	return groups, nil
}
