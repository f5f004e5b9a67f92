package shimspec

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Patience is what becomes of a caller that finds something locked.
type Patience int

// A caller that does not wait gets unix.EWOULDBLOCK.
const (
	Wait   Patience = 0
	Refuse Patience = unix.LOCK_NB
)

// LockSpare is held by who decides what becomes of a spare: the host process that
// claims it, up to when it has written Spec, and the shim that ends it, once it has
// removed ReadyRecord. The end of a process unlocks it.
func (p ContainerPaths) LockSpare(patience Patience) (unlock func(), err error) {
	fd, err := unix.Open(p.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("lock a spare: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(fd, unix.LOCK_EX|int(patience))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock a spare: %w", err)
	}
	return func() { unix.Close(fd) }, nil
}
