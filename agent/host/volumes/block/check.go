package block

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/filelock"
)

const (
	// loopPoll is the interval of checks whether a loop device is gone.
	loopPoll = 20 * time.Millisecond
	// maxWords bounds, in bytes, how much of a check's output is reported.
	maxWords = 64 << 10
)

// makeFileSystem creates an EXT4 file system. The image is new, so unwritten
// blocks are zero: the kernel has nothing to initialise at the first use. The
// program inherits the lock.
func makeFileSystem(ctx context.Context, image string, asked settings, lock *os.File) error {
	extended := "lazy_itable_init=0,lazy_journal_init=1"
	if asked.allocate {
		extended += ",nodiscard"
	}
	// -m 0: no blocks are reserved for root. A file system with errors becomes
	// read-only.
	command, output, err := program(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-e", "remount-ro", "-b", strconv.Itoa(blockSize), "-E", extended, image)
	if err != nil {
		return err
	}
	command.ExtraFiles = []*os.File{lock}
	if err := command.Run(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}

// Offsets and values in EXT4's superblock.
const (
	superblock     = 1024
	magicOffset    = superblock + 0x38
	extMagic       = 0xef53
	stateHasErrors = 2
)

// checkAfterErrors checks a file system in which the kernel has recorded errors,
// and reports the result. Only errors that e2fsck repairs by itself are repaired.
// A started check is not interrupted: it runs to its end even if the caller or
// this process is gone, and holds the lock until then.
func checkAfterErrors(ctx context.Context, name string, image, lock *os.File) error {
	if mounted, err := isMounted(image); mounted || err != nil {
		return err
	}
	var head [4]byte // magic number and state, 16 bits each
	if _, err := image.ReadAt(head[:], magicOffset); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	if binary.LittleEndian.Uint16(head[:]) != extMagic {
		return damaged(name, image, "it has no EXT4 superblock")
	}
	if binary.LittleEndian.Uint16(head[2:])&stateHasErrors == 0 {
		return nil
	}
	if err := waitUntilDetached(ctx, name, image); err != nil {
		return err
	}
	command, _, err := program(context.Background(), "e2fsck", "-p", image.Name())
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("e2fsck", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	output := os.NewFile(uintptr(fd), "e2fsck")
	defer output.Close()
	// A file, because writing to a pipe fails once its reader is gone.
	command.Stdout, command.Stderr = output, output
	command.ExtraFiles = []*os.File{lock}
	command.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	err = command.Run()
	words, _ := io.ReadAll(io.NewSectionReader(output, 0, maxWords))
	said := string(bytes.TrimSpace(words))
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) { // 1: all errors are corrected
		return damaged(name, image, said)
	}
	slog.Warn("the kernel had noted errors in a volume's file system, which was checked", "volume", name, "result", said)
	return nil
}

// isMounted reports whether the image is still mounted anywhere: then the kernel
// holds its loop device exclusively. A device that is only open lingers.
func isMounted(image *os.File) (bool, error) {
	loop, err := findLoop(image)
	if loop == nil {
		return false, err
	}
	defer loop.Close()
	fd, err := unix.Open(loop.Name(), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "open", Path: loop.Name(), Err: err}
	}
	return false, unix.Close(fd)
}

// waitUntilDetached waits until nobody has a loop device of the image open,
// through which they would see stale content.
func waitUntilDetached(ctx context.Context, name string, image *os.File) error {
	retry := time.NewTicker(loopPoll)
	defer retry.Stop()
	for {
		loop, err := findLoop(image)
		if loop == nil || err != nil {
			return err
		}
		if err := loop.Close(); err != nil {
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("volume %s is to be checked, and somebody has %s open: %w", name, loop.Name(), context.Cause(ctx))
		}
	}
}

// lockImage waits until no process creates, checks or mounts the image. The lock
// is a flock(2) on a separate open of the file, because a loop device keeps the
// image's open.
func lockImage(ctx context.Context, name string, image *os.File) (*os.File, error) {
	lock, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", image.Fd()))
	if err != nil {
		return nil, err
	}
	err = filelock.Lock(ctx, lock)
	switch {
	case err == nil:
		return lock, nil
	case ctx.Err() != nil:
		return nil, errors.Join(fmt.Errorf("volume %s is being made or checked: %w", name, err), lock.Close())
	default:
		return nil, errors.Join(fmt.Errorf("volume %s: %w", name, err), lock.Close())
	}
}

func damaged(name string, image *os.File, reason string) error {
	return connect.NewError(connect.CodeInternal, fmt.Errorf(
		"volume %s is damaged: %s (it is not repaired unasked: `e2fsck -f %s`, or bring back a copy)", name, reason, image.Name()))
}

// program prepares to run one of e2fsprogs. FAILED_PRECONDITION: it is not
// installed.
func program(ctx context.Context, name string, arguments ...string) (*exec.Cmd, *bytes.Buffer, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name) // not everybody's PATH has it
	}
	if err != nil {
		return nil, nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("block volumes need %s: install the package e2fsprogs", name))
	}
	command := exec.CommandContext(ctx, path, arguments...)
	output := &bytes.Buffer{}
	command.Stdout, command.Stderr = output, output
	return command, output, nil
}
