package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpAttempts bounds how often a listing is restarted.
const dumpAttempts = 100

// dump repeats a listing of links, addresses or routes if the kernel reports that
// they changed meanwhile, so that some may be missing: other containers come and
// go all the time.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var found []T
	err := error(netlink.ErrDumpInterrupted)
	for attempt := 0; attempt < dumpAttempts && errors.Is(err, netlink.ErrDumpInterrupted); attempt++ {
		found, err = list()
	}
	return found, err
}
