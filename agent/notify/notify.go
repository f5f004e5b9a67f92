// Package notify passes messages to the service manager, as Node has no
// datagram sockets of the unix domain.
package notify

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// variable names the service manager's socket; one that begins with @ is in
// the abstract name space (sd_notify(3)).
const variable = "NOTIFY_SOCKET"

// Main sends each message on standard input to the service manager, until its
// end. A message is one or more lines VARIABLE=VALUE, ended by an empty line.
func Main([]string) int {
	if err := forward(os.Stdin, os.Getenv(variable)); err != nil {
		fmt.Fprintf(os.Stderr, "sockerless-agent notify: %v\n", err)
		return 1
	}
	return 0
}

func forward(messages io.Reader, socket string) error {
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer connection.Close()
	var lines []string
	scanner := bufio.NewScanner(messages)
	for scanner.Scan() {
		if line := scanner.Text(); line != "" {
			lines = append(lines, line)
			continue
		}
		if _, err := connection.Write([]byte(strings.Join(lines, "\n"))); err != nil {
			return err
		}
		lines = nil
	}
	return scanner.Err()
}
