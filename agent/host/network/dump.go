package network

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpAttempts bounds how often a listing is begun again.
const dumpAttempts = 100

// dump lists links, addresses or routes again when the kernel says that they
// changed meanwhile, so that some may be missing: other containers' come and go
// all the time.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var found []T
	err := error(netlink.ErrDumpInterrupted)
	for attempt := 0; attempt < dumpAttempts && errors.Is(err, netlink.ErrDumpInterrupted); attempt++ {
		found, err = list()
	}
	return found, err
}
