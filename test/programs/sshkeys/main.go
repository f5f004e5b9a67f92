// Command sshkeys prints the public keys of the SSH agent at SSH_AUTH_SOCK, in base64, one a line.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// Messages of the agent's protocol (draft-ietf-sshm-ssh-agent).
const (
	requestIdentities = 11
	identitiesAnswer  = 12
)

func main() {
	keys, err := keysOf(os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "sshkeys:", err)
		os.Exit(1)
	}
	for _, key := range keys {
		fmt.Println(base64.StdEncoding.EncodeToString(key))
	}
}

func keysOf(socket string) ([][]byte, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0, 0, 0, 1, requestIdentities}); err != nil {
		return nil, err
	}
	answer, err := readString(conn)
	if err != nil {
		return nil, err
	}
	if len(answer) < 5 || answer[0] != identitiesAnswer {
		return nil, fmt.Errorf("the agent answered % x", answer)
	}
	count, rest := binary.BigEndian.Uint32(answer[1:5]), answer[5:]
	var keys [][]byte
	for range count {
		var both [2][]byte // key and comment
		for at := range both {
			if len(rest) < 4 || uint32(len(rest)-4) < binary.BigEndian.Uint32(rest) {
				return nil, errors.New("the answer is cut")
			}
			end := 4 + binary.BigEndian.Uint32(rest)
			both[at], rest = rest[4:end], rest[end:]
		}
		keys = append(keys, both[0])
	}
	return keys, nil
}

func readString(from io.Reader) ([]byte, error) {
	var size uint32
	if err := binary.Read(from, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	content := make([]byte, size)
	_, err := io.ReadFull(from, content)
	return content, err
}
