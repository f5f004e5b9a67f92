package block

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of loop devices, from linux/loop.h.
const (
	autoClear = 4
	directIO  = 16
)

// loopMajor is the major number of loop devices.
const loopMajor = 7

// attachLoop returns an open loop device of the image. It reuses an existing one,
// since a mount of it may linger in an invisible namespace, and two devices would
// corrupt the image. The kernel frees a device with its last user, even if that
// is killed.
func attachLoop(image *os.File) (*os.File, error) {
	for {
		loop, err := findLoop(image)
		if loop != nil || err != nil {
			return loop, err
		}
		loop, err = newLoop(image)
		// Another process on this machine was faster.
		if !errors.Is(err, unix.EBUSY) {
			return loop, err
		}
	}
}

func newLoop(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("no loop device is free: %w", err)
	}
	loop, err := openLoop(number)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: blockSize, Info: unix.LoopInfo64{Flags: autoClear | directIO}}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], image.Name())
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		return nil, errors.Join(fmt.Errorf("configure %s: %w", loop.Name(), err), loop.Close())
	}
	return loop, nil
}

// openLoop creates the device's node if nothing maintains /dev.
func openLoop(number int) (*os.File, error) {
	path := fmt.Sprintf("/dev/loop%d", number)
	if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
}

// findLoop returns the image's loop device, or nil. It compares inodes, since a
// file may have several paths.
func findLoop(image *os.File) (*os.File, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(image.Fd()), &stat); err != nil {
		return nil, err
	}
	bound, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, path := range bound {
		name := filepath.Base(filepath.Dir(filepath.Dir(path)))
		number, err := strconv.Atoi(strings.TrimPrefix(name, "loop"))
		backing, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || !strings.HasPrefix(filepath.Base(string(backing)), filepath.Base(image.Name())) {
			continue
		}
		loop, err := openLoop(number)
		if err != nil {
			continue // it has gone meanwhile
		}
		info, err := unix.IoctlLoopGetStatus64(int(loop.Fd()))
		if err == nil && info.Inode == stat.Ino && info.Device == stat.Dev {
			return loop, nil
		}
		loop.Close()
	}
	return nil, nil
}
