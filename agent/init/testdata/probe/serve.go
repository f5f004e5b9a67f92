package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// serve listens until its standard input ends, and says on which port.
func serve(network, address string) {
	if network == "udp" {
		packets, err := net.ListenPacket("udp", address)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(packets.LocalAddr().(*net.UDPAddr).Port)
		go echoPackets(packets)
	} else {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go answer(conn.(*net.TCPConn))
			}
		}()
	}
	os.Stdin.Read(make([]byte, 1))
}

func echoPackets(packets net.PacketConn) {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		packets.WriteTo(buffer[:n], from)
	}
}

// ask asks questions at a unix socket.
func ask(socket string, questions []string) {
	for _, question := range questions {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			fmt.Print(err)
			os.Exit(1)
		}
		fmt.Fprint(conn, question)
		conn.(*net.UnixConn).CloseWrite()
		io.Copy(os.Stdout, conn)
		conn.Close()
	}
}

// answer does what the connection's first line says.
func answer(conn *net.TCPConn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	line, _ := in.ReadString('\n')
	order, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch order {
	case "echo":
		io.Copy(conn, in)
	case "close":
		io.WriteString(conn, "bye")
		conn.CloseWrite()
		io.Copy(io.Discard, in)
	case "reset":
		conn.SetLinger(0)
	case "tell": // how the connection ends
		io.WriteString(conn, "listening")
		_, err := io.Copy(io.Discard, in)
		fmt.Println(err)
	case "ignore":
		time.Sleep(time.Hour)
	case "swallow":
		io.Copy(io.Discard, in)
	case "flood":
		size, _ := strconv.Atoi(argument)
		chunk := make([]byte, 256<<10)
		for size > 0 {
			n, err := conn.Write(chunk[:min(size, len(chunk))])
			if err != nil {
				return
			}
			size -= n
		}
	}
}
