package mounts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Namespace is a mount namespace with nothing in it but one tree of mounts. They
// do not count as the machine's, of which the kernel allows 100,000, and vanish
// with the namespace. No process lives in it.
type Namespace struct {
	mu   sync.Mutex
	kept *os.File // the namespace itself; nil once it is closed
	root *os.File // its root directory, opened with O_PATH
}

var errClosed = errors.New("the mount namespace is closed")

// NewNamespace creates a namespace whose root is a detached mount, which it takes
// over.
func NewNamespace(root *os.File) (*Namespace, error) {
	kept, err := onThread(func() (*os.File, error) { return moveToNamespace(int(root.Fd())) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create a mount namespace: %w", err), root.Close())
	}
	return &Namespace{kept: kept, root: root}, nil
}

// moveToNamespace makes a detached mount the root of a new namespace, which it
// opens.
func moveToNamespace(root int) (*os.File, error) {
	machine, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	defer machine.Close()
	if err := leaveMachine(); err != nil {
		return nil, err
	}
	// The thread's end comes later.
	defer unix.Setns(int(machine.Fd()), unix.CLONE_NEWNS)
	kept, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	if err := replaceRoot(root); err != nil {
		return nil, errors.Join(err, kept.Close())
	}
	return kept, nil
}

// leaveMachine gives this thread a private copy of the machine's mounts.
func leaveMachine() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// replaceRoot makes a detached mount the only one of this thread's namespace.
func replaceRoot(root int) error {
	if err := Attach(root, "/"); err != nil {
		return err
	}
	if err := unix.Fchdir(root); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root is then mounted over it
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's root: %w", err)
	}
	return nil
}

// Open opens the root directory (O_PATH).
func (n *Namespace) Open() (*os.File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kept == nil {
		return nil, errClosed
	}
	return duplicate(n.root)
}

func duplicate(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// Do runs work on a thread in the namespace. There is no /proc in it. Close does
// not wait for work.
func (n *Namespace) Do(work func() error) error {
	return n.enter(func(*os.File) error { return work() })
}

// Count counts the mounts.
func (n *Namespace) Count() (count int, err error) {
	return count, n.enter(func(thread *os.File) error {
		fd, err := unix.Openat(int(thread.Fd()), "mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("open mountinfo", err)
		}
		mountinfo := os.NewFile(uintptr(fd), "mountinfo")
		defer mountinfo.Close()
		count, err = countLines(mountinfo)
		return err
	})
}

func countLines(in io.Reader) (count int, err error) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := in.Read(buffer)
		count += bytes.Count(buffer[:n], []byte("\n"))
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// enter runs work on a thread in the namespace, with that thread's directory in
// /proc.
func (n *Namespace) enter(work func(thread *os.File) error) error {
	n.mu.Lock()
	if n.kept == nil {
		n.mu.Unlock()
		return errClosed
	}
	kept, err := duplicate(n.kept)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	defer kept.Close()
	_, err = onThread(func() (struct{}, error) { return struct{}{}, workIn(kept, work) })
	return err
}

func workIn(namespace *os.File, work func(thread *os.File) error) error {
	thread, err := os.OpenFile("/proc/thread-self", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer thread.Close()
	machine, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	defer machine.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter a mount namespace: %w", err)
	}
	// The thread's end comes later.
	defer unix.Setns(int(machine.Fd()), unix.CLONE_NEWNS)
	return work(thread)
}

// Close unmounts everything, apart from what is still open or mounted elsewhere
// too. It may be repeated.
func (n *Namespace) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kept == nil {
		return nil
	}
	err := errors.Join(n.root.Close(), n.kept.Close())
	n.kept, n.root = nil, nil
	return err
}
