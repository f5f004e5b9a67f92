package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clientOf is a client of a daemon whose answers are the handler's.
func clientOf(t *testing.T, answers http.Handler) *client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answers}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return newClient(socket)
}

// answering is a handler for some patterns, which have no version.
func answering(handlers map[string]http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	for pattern, handler := range handlers {
		mux.HandleFunc(strings.Replace(pattern, "/", version+"/", 1), handler)
	}
	return mux
}

// says answers with a text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// streams lets the client take the connection over, and has the first bytes
// leave together with the acceptance.
func streams(t *testing.T, first string, then func(io.ReadWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "tcp" {
			t.Error("no upgrade is asked for")
		}
		body, _ := io.ReadAll(r.Body)
		if !strings.HasPrefix(string(body), "{") {
			t.Errorf("the body is %q", body)
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n%s", first)
		if then != nil {
			then(struct {
				io.Reader
				io.Writer
			}{buffered, conn})
		}
	}
}

// made is what requests for containers and execs answer with.
var made = says(`{"Id":"c1"}`)

func fails(t *testing.T, err error, with string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), with) {
		t.Fatalf("the error is %v, and not %q", err, with)
	}
}

func succeeds(t *testing.T, took time.Duration, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if took <= 0 {
		t.Fatal("it took no time")
	}
}
