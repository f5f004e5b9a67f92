package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// answers reads so many lines of answers.
func answers(t *testing.T, output io.Reader, count int) []answer {
	t.Helper()
	all := make([]answer, count)
	lines := json.NewDecoder(output)
	for n := range all {
		if err := lines.Decode(&all[n]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestEachRequestHasItsAnswer(t *testing.T) {
	bodies := make(chan string, 2)
	takes := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- r.Header.Get("Content-Type") + " " + string(body)
	}
	c := clientOf(t, answering(map[string]http.HandlerFunc{"POST /take": takes, "PUT /take": takes}))
	output, answered := io.Pipe()
	input := strings.NewReader(`{"work":"call","method":"POST","path":"/take","bodyBytes":2}` + "\n" + `{}` +
		`{"work":"call","method":"PUT","path":"/take","bodyType":"application/x-tar","bodyBytes":3}` + "\n" + "a\nb" +
		`{"work":"call","method":"GET","path":"/nowhere","bodyBytes":0}` + "\n" +
		`{"work":"idle","bodyBytes":0}` + "\n")
	ended := make(chan error, 1)
	go func() { ended <- serve(c, input, answered) }()
	all := answers(t, output, 4)
	for _, one := range all[:2] {
		if one.Value == nil || *one.Value <= 0 || one.Error != "" {
			t.Fatalf("%+v", one)
		}
	}
	for n, with := range []string{"GET /nowhere: 404", "there is no work idle"} {
		if one := all[2+n]; one.Value != nil || !strings.Contains(one.Error, with) {
			t.Fatalf("%+v", one)
		}
	}
	if first, second := <-bodies, <-bodies; first != "application/json {}" || second != "application/x-tar a\nb" {
		t.Fatalf("the bodies are %q and %q", first, second)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestItEndsWithItsInputWhateverIsUnderWay(t *testing.T) {
	underWay, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	c := clientOf(t, answering(map[string]http.HandlerFunc{
		"GET /stuck": func(http.ResponseWriter, *http.Request) {
			close(underWay)
			<-over
		},
	}))
	input, asked := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- serve(c, input, io.Discard) }()
	fmt.Fprintln(asked, `{"work":"call","method":"GET","path":"/stuck"}`)
	<-underWay
	asked.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestInputThatIsNoRequestEndsIt(t *testing.T) {
	if err := serve(newClient(""), bufio.NewReader(strings.NewReader("nonsense\n")), os.Stderr); err == nil {
		t.Fatal("nonsense is taken for a request")
	}
	fails(t, start(nil), "usage: apiclient SOCKET")
}
