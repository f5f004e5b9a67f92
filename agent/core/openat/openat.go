// Package openat opens paths by openat2(2), which confines their resolution to a
// directory.
package openat

import "golang.org/x/sys/unix"

// maxRaces bounds the retries of a disturbed resolution: against endless renames
// Open returns EAGAIN.
const maxRaces = 100_000

// Open retries openat2 until it is undisturbed. The kernel returns EAGAIN for a
// path with ".." if anything was renamed or mounted on the machine meanwhile.
func Open(directory int, name string, how *unix.OpenHow) (fd int, err error) {
	for range maxRaces {
		if fd, err = unix.Openat2(directory, name, how); err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}
