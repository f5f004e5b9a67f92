package mirror

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
)

// Socket states in the kernel's tables: TCP_LISTEN, and that of an unconnected
// datagram socket.
const (
	stateListen      = "0A"
	stateUnconnected = "07"
)

// Listening returns the TCP listeners of all processes in this process's network
// namespace, itself included.
func Listening() ([]netip.AddrPort, error) {
	return socketsIn(stateListen, "/proc/self/net/tcp", "/proc/self/net/tcp6")
}

// waitingForDatagrams returns the sockets on which processes wait for datagrams
// from anybody. Ports chosen by the kernel are left out: clients use them to wait
// for replies, and nobody could know them beforehand.
func waitingForDatagrams() ([]netip.AddrPort, error) {
	found, err := socketsIn(stateUnconnected, "/proc/self/net/udp", "/proc/self/net/udp6")
	if err != nil {
		return nil, err
	}
	first, last := uint16(32768), uint16(60999) // the kernel's default range
	if content, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(content), &first, &last)
	}
	return slices.DeleteFunc(found, func(at netip.AddrPort) bool { return first <= at.Port() && at.Port() <= last }), nil
}

func socketsIn(state string, paths ...string) ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	for _, path := range paths {
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err = parseSockets(file, state, found)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return found, nil
}

// parseSockets appends to found the sockets of a kernel table in a given state.
func parseSockets(table io.Reader, state string, found []netip.AddrPort) ([]netip.AddrPort, error) {
	lines := bufio.NewScanner(table)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 4 || string(fields[3]) != state {
			continue
		}
		address, err := parseAddress(string(fields[1]))
		if err != nil {
			return nil, err
		}
		found = append(found, address)
	}
	return found, lines.Err()
}

// parseAddress parses `0100007F:1F90`: the address as 32-bit words in the
// machine's byte order, and the port.
func parseAddress(text string) (netip.AddrPort, error) {
	words, port, _ := bytes.Cut([]byte(text), []byte(":"))
	address := make([]byte, hex.DecodedLen(len(words)))
	if _, err := hex.Decode(address, words); err != nil || len(address)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address of a socket", text)
	}
	for i := 0; i < len(address); i += 4 {
		binary.NativeEndian.PutUint32(address[i:], binary.BigEndian.Uint32(address[i:]))
	}
	from, ok := netip.AddrFromSlice(address)
	number, err := strconv.ParseUint(string(port), 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address of a socket", text)
	}
	return netip.AddrPortFrom(from.Unmap(), uint16(number)), nil
}
