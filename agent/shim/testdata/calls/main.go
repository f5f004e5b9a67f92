// Command calls makes every system call of 64 bits, with arguments that none can
// do anything with, and some that Docker's profile judges by their arguments. It
// says which ones the profile has refused: by an error that no call has, or one
// of two that some have.
package main

import (
	"fmt"
	"slices"
	"strconv"
	"syscall"
)

const (
	x32Bit = 1 << 30
	last   = 470
	no     = ^uintptr(0)

	// Package syscall has not these.
	uretprobe = 335
	uprobe    = 336
)

// refusals are the errors of the profile in the test, and of the runtime.
var refusals = []syscall.Errno{1234, syscall.EPERM, syscall.ENOSYS}

// spared end, stop, signal or double this process, have the kernel write to it
// when it ends, or wait for every disk.
var spared = []uintptr{
	syscall.SYS_RT_SIGRETURN, syscall.SYS_PAUSE, syscall.SYS_FORK, syscall.SYS_VFORK, syscall.SYS_EXIT, syscall.SYS_EXIT_GROUP,
	syscall.SYS_SET_TID_ADDRESS, syscall.SYS_SYNC, uretprobe, uprobe,
}

func main() {
	for _, bit := range []uintptr{0, x32Bit} {
		for number := range uintptr(last) {
			if !slices.Contains(spared, number) {
				ask(strconv.Itoa(int(number)), bit|number, no, no, no)
			}
		}
	}
	for _, number := range []uintptr{1000, 512, x32Bit - 1, 1 << 31, no} {
		ask("beyond", number, no, no, no)
	}
	for _, persona := range []uintptr{0, 1, 8, 9, 0x20000, 0x20008, 0x40000, no, 1 << 32} {
		ask("personality", syscall.SYS_PERSONALITY, persona, 0, 0)
	}
	for family := range uintptr(50) {
		ask("socket", syscall.SYS_SOCKET, family, no, no)
	}
	for bit := range 64 {
		ask("clone", syscall.SYS_CLONE, 1<<bit|syscall.CLONE_THREAD, 0, 0) // which asks for two more
	}
}

func ask(name string, number, first, second, third uintptr) {
	_, _, errno := syscall.RawSyscall6(number, first, second, third, no, no, no)
	if slices.Contains(refusals, errno) {
		fmt.Printf("%s: call %#x with %#x: %d\n", name, number, first, errno)
	}
}
