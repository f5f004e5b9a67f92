package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// shareOptions are mount.cifs' options of the same names.
type shareOptions struct {
	uid, gid uint32
	fileMode uint32
	dirMode  uint32
	// symlinks: the client keeps symbolic links in files of its own kind.
	mfsymlinks bool
	// locks stay with the client, so that other clients do not see them.
	nobrl bool
}

// serveShare shows a directory at a mount point as Linux shows an SMB share
// without POSIX extensions: every file belongs to the mount's user and group
// and has the mount's mode, whoever made it. The kernel checks permissions by
// these. It prints "ready" once the mount is there and serves until it is
// unmounted.
func serveShare(args []string) error {
	flags := flag.NewFlagSet("share", flag.ContinueOnError)
	uid := flags.Uint("uid", 0, "the owner of all files")
	gid := flags.Uint("gid", 0, "their group")
	fileMode := flags.String("file_mode", "0777", "the mode of files")
	dirMode := flags.String("dir_mode", "0777", "the mode of directories")
	mfsymlinks := flags.Bool("mfsymlinks", false, "whether there can be symbolic links")
	nobrl := flags.Bool("nobrl", false, "whether locks are for this mount alone")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("usage: taskhost share [FLAG]... DIRECTORY MOUNTPOINT")
	}
	files, err := strconv.ParseUint(*fileMode, 8, 12)
	if err != nil {
		return err
	}
	directories, err := strconv.ParseUint(*dirMode, 8, 12)
	if err != nil {
		return err
	}
	options := &shareOptions{
		uid: uint32(*uid), gid: uint32(*gid),
		fileMode: uint32(files), dirMode: uint32(directories),
		mfsymlinks: *mfsymlinks, nobrl: *nobrl,
	}
	device, err := mountFuse(flags.Arg(1), "cifs", ",default_permissions")
	if err != nil {
		return err
	}
	if err := os.Chdir(flags.Arg(0)); err != nil {
		return err
	}
	syscall.Umask(0)
	loopback, err := fs.NewLoopbackRoot(".")
	if err != nil {
		return err
	}
	data := loopback.(*fs.LoopbackNode).RootData
	data.NewNode = func(root *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &shareNode{LoopbackNode: fs.LoopbackNode{RootData: root}, options: options}
	}
	root := &shareNode{LoopbackNode: fs.LoopbackNode{RootData: data}, options: options}
	data.RootNode = root
	return serveNodes(device, root, !options.nobrl)
}

// shareNode is a file of a share.
type shareNode struct {
	fs.LoopbackNode
	options *shareOptions
}

var _ = (fs.NodeSetattrer)((*shareNode)(nil))

// show replaces what the server's disk has of owners and modes. A file that
// nobody may write there has SMB's read-only attribute.
func (n *shareNode) show(attr *fuse.Attr) {
	attr.Uid, attr.Gid = n.options.uid, n.options.gid
	isReadOnly := attr.Mode&0o222 == 0
	switch attr.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		attr.Mode = syscall.S_IFDIR | n.options.dirMode
	case syscall.S_IFREG:
		attr.Mode = syscall.S_IFREG | n.options.fileMode
		if isReadOnly {
			attr.Mode &^= 0o222
		}
		attr.Nlink = 1
	case syscall.S_IFLNK:
		attr.Mode = syscall.S_IFLNK | 0o777
	}
}

func (n *shareNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child, errno := n.LoopbackNode.Lookup(ctx, name, out)
	n.show(&out.Attr)
	return child, errno
}

func (n *shareNode) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	errno := n.LoopbackNode.Getattr(ctx, f, out)
	n.show(&out.Attr)
	return errno
}

func (n *shareNode) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child, errno := n.LoopbackNode.Mkdir(ctx, name, 0o755, out)
	n.show(&out.Attr)
	return child, errno
}

func (n *shareNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	child, handle, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, onDisk(mode), out)
	n.show(&out.Attr)
	return child, handle, fuseFlags, errno
}

// Mknod makes plain files alone: SMB has no devices, pipes and sockets.
func (n *shareNode) Mknod(ctx context.Context, name string, mode, rdev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, syscall.EPERM
	}
	child, errno := n.LoopbackNode.Mknod(ctx, name, syscall.S_IFREG|onDisk(mode), rdev, out)
	n.show(&out.Attr)
	return child, errno
}

func (n *shareNode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if !n.options.mfsymlinks {
		return nil, syscall.EOPNOTSUPP
	}
	child, errno := n.LoopbackNode.Symlink(ctx, target, name, out)
	n.show(&out.Attr)
	return child, errno
}

// Link is refused: Azure Files has no hard links by SMB.
func (n *shareNode) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EOPNOTSUPP
}

// Setattr keeps of a mode only whether anybody may write, and nothing of an
// owner, without an error, as the kernel's cifs does. The kernel has refused
// callers that are neither owner nor privileged.
func (n *shareNode) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	rest := *in
	rest.Valid &^= fuse.FATTR_UID | fuse.FATTR_GID
	if mode, ok := in.GetMode(); ok {
		caller, known := fuse.FromContext(ctx)
		if known && caller.Uid != n.options.uid {
			return syscall.EPERM
		}
		rest.Mode = onDisk(mode)
		if n.IsDir() {
			rest.Valid &^= fuse.FATTR_MODE
		}
	}
	if rest.Valid&(fuse.FATTR_MODE|fuse.FATTR_SIZE|fuse.FATTR_ATIME|fuse.FATTR_MTIME) != 0 {
		if errno := n.LoopbackNode.Setattr(ctx, f, &rest, out); errno != 0 {
			return errno
		}
	}
	return n.Getattr(ctx, f, out)
}

// onDisk is a mode as the server's disk has it: writable or read-only.
func onDisk(mode uint32) uint32 {
	if mode&0o222 == 0 {
		return 0o444
	}
	return 0o644
}
