// Command namewatch asks the container's first name server for names, again and
// again, and prints a line whenever one begins or ceases to resolve: the time
// (Unix, in milliseconds), the name, and its address, or "-" without one. It
// goes on until it is killed.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

func main() {
	if err := watch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "namewatch:", err)
		os.Exit(1)
	}
}

// answerLimit is how long the server may take; a question without an answer says
// nothing of its name.
const answerLimit = time.Second

func watch(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: namewatch PAUSE NAME... (the pause between questions as 5ms)")
	}
	pause, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	server, err := firstServer("/etc/resolv.conf")
	if err != nil {
		return err
	}
	connection, err := net.Dial("udp", net.JoinHostPort(server, "53"))
	if err != nil {
		return err
	}
	last := map[string]string{}
	for id := uint16(0); ; {
		for _, name := range args[1:] {
			id++
			address, err := ask(connection, id, name)
			if err != nil {
				continue
			}
			if before, asked := last[name]; !asked || before != address {
				last[name] = address
				fmt.Printf("%.3f %s %s\n", float64(time.Now().UnixMicro())/1000, name, address)
			}
		}
		time.Sleep(pause)
	}
}

func firstServer(file string) (string, error) {
	opened, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer opened.Close()
	lines := bufio.NewScanner(opened)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "nameserver" {
			return fields[1], nil
		}
	}
	return "", errors.Join(fmt.Errorf("%s names no server", file), lines.Err())
}

const headerLength = 12

// ask answers an IPv4 address, or "-" where the name has none.
func ask(connection net.Conn, id uint16, name string) (string, error) {
	// Recursion is desired; there is one question.
	query := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range strings.Split(name, ".") {
		query = append(append(query, byte(len(label))), label...)
	}
	query = append(query, 0, 0, 1, 0, 1) // the root's label, A, IN
	if _, err := connection.Write(query); err != nil {
		return "", err
	}
	if err := connection.SetReadDeadline(time.Now().Add(answerLimit)); err != nil {
		return "", err
	}
	response := make([]byte, 512)
	for {
		length, err := connection.Read(response)
		if err != nil {
			return "", err
		}
		if length < headerLength || binary.BigEndian.Uint16(response) != id {
			continue // The answer to a question that was given up.
		}
		if binary.BigEndian.Uint16(response[6:]) == 0 || length < len(query) {
			return "-", nil
		}
		// The message ends with the address of its last answer.
		address, ok := netip.AddrFromSlice(response[length-net.IPv4len : length])
		if !ok {
			return "", errors.New("no address")
		}
		return address.String(), nil
	}
}
