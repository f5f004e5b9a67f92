// Package openat opens paths with openat2(2), which resolves them inside a
// directory.
package openat

import "golang.org/x/sys/unix"

// maxRaces bounds the tries of a resolution that others disturb: an attacker
// who renames without end gets EAGAIN.
const maxRaces = 100_000

// Open calls openat2 until nothing disturbs it. The kernel answers EAGAIN to a
// path with ".." if anything at all was renamed or mounted on the machine
// meanwhile.
func Open(directory int, name string, how *unix.OpenHow) (fd int, err error) {
	for range maxRaces {
		if fd, err = unix.Openat2(directory, name, how); err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}
