// Ryuk stands in for testcontainers' reaper: it is told by clients which labels their things carry, and removes those once
// no client is connected any more. The protocol is a line `label=K=V&label=K=V`, answered with `ACK`.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

const dockerSocket = "/var/run/docker.sock"

// api is a client of the daemon whose socket is mounted here.
var api = http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", dockerSocket)
	},
}}

func main() {
	listener, err := net.Listen("tcp", ":"+setting("RYUK_PORT", "8080"))
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("Started address=%s", listener.Addr())
	connectionLimit := duration("RYUK_CONNECTION_TIMEOUT", time.Minute)
	reconnectionLimit := duration("RYUK_RECONNECTION_TIMEOUT", 10*time.Second)
	var mutex sync.Mutex
	clients := 0
	told := map[string]bool{}
	idle := time.AfterFunc(connectionLimit, func() { reap(&mutex, told) })
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		mutex.Lock()
		clients++
		idle.Stop()
		mutex.Unlock()
		log.Printf("New client connected: %s", connection.RemoteAddr())
		go func() {
			lines := bufio.NewScanner(connection)
			for lines.Scan() {
				mutex.Lock()
				told[lines.Text()] = true
				mutex.Unlock()
				_, _ = connection.Write([]byte("ACK\n"))
			}
			_ = connection.Close()
			mutex.Lock()
			defer mutex.Unlock()
			if clients--; clients == 0 {
				idle.Reset(reconnectionLimit)
			}
		}()
	}
}

// reap removes what carries the labels, and ends the program.
func reap(mutex *sync.Mutex, told map[string]bool) {
	mutex.Lock()
	for line := range told {
		filters, err := url.ParseQuery(line)
		if err != nil {
			log.Printf("unreadable filter %q: %v", line, err)
			continue
		}
		wanted, _ := json.Marshal(filters)
		query := url.QueryEscape(string(wanted))
		for _, container := range list("/containers/json?all=1&filters="+query, "") {
			// It has the labels of its session itself, and what is left is to be removed first.
			if container.Labels["org.testcontainers.ryuk"] != "true" {
				remove("/containers/" + container.ID + "?force=1&v=1")
			}
		}
		for _, network := range list("/networks?filters="+query, "") {
			remove("/networks/" + network.ID)
		}
		for _, volume := range list("/volumes?filters="+query, "Volumes") {
			remove("/volumes/" + volume.Name)
		}
		for _, image := range list("/images/json?filters="+query, "") {
			remove("/images/" + image.ID + "?force=1")
		}
	}
	os.Exit(0)
}

// thing is what can be removed; volumes have no ID.
type thing struct {
	ID     string `json:"Id"`
	Name   string
	Labels map[string]string
}

// list asks for an array, or for an object with the array in a field.
func list(path, field string) []thing {
	response, err := api.Get("http://docker" + path)
	if err != nil {
		log.Print(err)
		return nil
	}
	defer response.Body.Close()
	var things []thing
	if field == "" {
		err = json.NewDecoder(response.Body).Decode(&things)
	} else {
		holder := map[string]json.RawMessage{}
		if err = json.NewDecoder(response.Body).Decode(&holder); err == nil && holder[field] != nil {
			err = json.Unmarshal(holder[field], &things)
		}
	}
	if err != nil {
		log.Printf("%s: %v", path, err)
	}
	return things
}

func remove(path string) {
	request, err := http.NewRequest(http.MethodDelete, "http://docker"+path, nil)
	if err != nil {
		log.Fatal(err)
	}
	response, err := api.Do(request)
	if err != nil {
		log.Print(err)
		return
	}
	_ = response.Body.Close()
	fmt.Println("removed", path, response.Status)
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func duration(name string, otherwise time.Duration) time.Duration {
	value, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return value
}
