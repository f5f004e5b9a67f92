package ports

import (
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

const (
	// perConnection is how many descriptors a TCP connection takes: its own, that to
	// the container, and a pipe for each direction.
	perConnection = 6
	// leastRelayed are the connections to Docker sockets that are always allowed.
	leastRelayed = 64
	// mostDescriptors bounds what is shared out, and so the memory of connections.
	mostDescriptors = 1 << 16
	// leastConnections and leastClients are allowed however few descriptors the
	// process may have.
	leastConnections, leastClients = 16, 16
)

// room bounds what all published ports of a container hold. Anybody can connect to
// them, and the process needs descriptors of its own for execs, files and logs: a
// quarter of all, and it may have opened some for streams by then.
type room struct {
	connections *semaphore.Weighted
	clients     *semaphore.Weighted
}

func sharedOf(descriptors uint64) int64 { return int64(min(descriptors, mostDescriptors)) }

// roomBeside shares out the descriptors that this process may open: five eighths
// to TCP, an eighth to clients of UDP ports.
func roomBeside(descriptors uint64) room {
	shared := sharedOf(descriptors)
	return room{
		connections: semaphore.NewWeighted(max(leastConnections, shared*5/8/perConnection)),
		clients:     semaphore.NewWeighted(max(leastClients, shared/8)),
	}
}

// Relayed is how many connections to Docker sockets a container may have: an eighth
// of the descriptors is for them.
func Relayed() int { return int(max(leastRelayed, sharedOf(ownDescriptors())/8/perConnection)) }

// ownDescriptors is how many descriptors this process may have open.
func ownDescriptors() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}
