package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestAnAnswerIsCountedWhole(t *testing.T) {
	const size = 3*bufferBytes + 7
	c := clientOf(t, answering(map[string]http.HandlerFunc{
		"GET /sized": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = io.WriteString(w, strings.Repeat("x", size))
		},
		"GET /chunked": func(w http.ResponseWriter, _ *http.Request) {
			for left := size; left > 0; left -= min(left, 4099) {
				_, _ = io.WriteString(w, strings.Repeat("x", min(left, 4099)))
				w.(http.Flusher).Flush()
			}
		},
	}))
	for _, path := range []string{"/sized", "/chunked"} {
		answer, err := c.stream("GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if total, err := drain(answer); err != nil || total != size {
			t.Fatalf("%s: %d bytes of %d, %v", path, total, size, err)
		}
		answer.Close()
		took, err := c.timeCall(request{Method: "GET", Path: path, Bytes: size})
		succeeds(t, took, err)
		_, err = c.timeCall(request{Method: "GET", Path: path, Bytes: size + 1})
		fails(t, err, fmt.Sprintf("%d bytes came back", size))
	}
}

func TestAnAnswerThatIsCutIsNoWholeOne(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c := clientOf(t, answering(map[string]http.HandlerFunc{"GET /cut": cut, "PUT /cut": cut}))
	for _, r := range []request{{Method: "GET", Path: "/cut"}, {Method: "PUT", Path: "/cut", BodyType: "application/x-tar"}} {
		_, err := c.timeCall(r)
		fails(t, err, io.ErrUnexpectedEOF.Error())
	}
}

func TestARefusalIsTold(t *testing.T) {
	refuses := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"message":"no such thing"}`, 404) }
	c := clientOf(t, answering(map[string]http.HandlerFunc{"GET /x": refuses, "POST /x": refuses, "PUT /x": refuses}))
	const refusal = `/x: 404 {"message":"no such thing"}`
	_, err := c.call("GET", "/x", nil)
	fails(t, err, "GET "+refusal)
	_, err = c.hijack("/x", "{}")
	fails(t, err, "POST "+refusal)
	_, err = c.upload("PUT", "/x", "application/x-tar", nil)
	fails(t, err, "PUT "+refusal)
}

// The daemon answers and hangs up before it has read everything.
func TestARefusalOfALargeBodyIsTold(t *testing.T) {
	c := clientOf(t, answering(map[string]http.HandlerFunc{
		"PUT /full": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 507 Full\r\nContent-Length: 4\r\n\r\nfull")
		},
	}))
	_, err := c.upload("PUT", "/full", "application/x-tar", make([]byte, 8<<20))
	fails(t, err, "PUT /full: 507 full")
}

func TestAnAcceptanceThatIsNoneIsTold(t *testing.T) {
	c := clientOf(t, answering(map[string]http.HandlerFunc{"POST /attach": says("")}))
	_, err := c.hijack("/attach", "{}")
	fails(t, err, "200 OK in place of a stream")
}

func TestAStreamIsCountedFromItsFirstByte(t *testing.T) {
	c := clientOf(t, answering(map[string]http.HandlerFunc{
		"POST /attach": streams(t, "first", func(client io.ReadWriter) {
			_, _ = io.WriteString(client, strings.Repeat("x", 2*bufferBytes))
		}),
	}))
	stream, err := c.hijack("/attach", "{}")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if total, err := drain(stream); err != nil || total != 5+2*bufferBytes {
		t.Fatalf("%d bytes, %v", total, err)
	}
}

func TestALargeBodyArrivesWhole(t *testing.T) {
	const size = 8<<20 + 3
	c := clientOf(t, answering(map[string]http.HandlerFunc{
		"PUT /archive": func(w http.ResponseWriter, r *http.Request) {
			total, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %v %s", total, err, r.Header.Get("Content-Type"))
		},
	}))
	answer, err := c.upload("PUT", "/archive", "application/x-tar", make([]byte, size))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	text, err := io.ReadAll(answer)
	if err != nil || string(text) != fmt.Sprintf("%d <nil> application/x-tar", size) {
		t.Fatalf("%s, %v", text, err)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	remotes := make(chan string, 2)
	c := clientOf(t, answering(map[string]http.HandlerFunc{
		"GET /x": func(w http.ResponseWriter, r *http.Request) {
			remotes <- fmt.Sprintf("%p", r.Context().Value(http.LocalAddrContextKey))
			fmt.Fprint(w, "x")
		},
	}))
	for range 2 {
		if _, err := c.call("GET", "/x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := <-remotes, <-remotes; first != second {
		t.Fatal("each request has a connection of its own")
	}
}

func TestFailedProgressIsTold(t *testing.T) {
	early := strings.Repeat(`{"status":"Pulling"}`, 1000)
	c := clientOf(t, answering(map[string]http.HandlerFunc{
		"POST /good": says(early),
		"POST /bad":  says(early + `{"error":"no such image"}`),
	}))
	r := request{Method: "POST", Path: "/good", Progress: true}
	took, err := c.timeCall(r)
	succeeds(t, took, err)
	r.Path = "/bad"
	_, err = c.timeCall(r)
	fails(t, err, "no such image")
}
