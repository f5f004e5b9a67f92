// Socketrelay makes the Docker socket of its container reachable at TCP port 2375, each direction to its own end.
package main

import (
	"io"
	"log"
	"net"
)

func main() {
	listener, err := net.Listen("tcp", ":2375")
	if err != nil {
		log.Fatal(err)
	}
	log.Print("relaying")
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go relay(client.(*net.TCPConn))
	}
}

func relay(client *net.TCPConn) {
	defer client.Close()
	daemon, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: "/var/run/docker.sock"})
	if err != nil {
		log.Print(err)
		return
	}
	defer daemon.Close()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = io.Copy(client, daemon)
		_ = client.CloseWrite()
	}()
	_, _ = io.Copy(daemon, client)
	_ = daemon.CloseWrite()
	<-answered
}
