package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/identity"
)

func TestAContextOfTheWebIsRefusedAndNotAskedFor(t *testing.T) {
	s, _ := serverOf(t)
	var asked atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.NotFound(w, nil)
	}))
	defer web.Close()
	for _, options := range []map[string]string{
		{"context": web.URL + "/context.tar.gz"},
		{"context": "http://buildkit-session/archive"},
		{"contextkey": "other", "other": web.URL + "/context.tar.gz"},
		{"contextkey": "", "": web.URL + "/context.tar.gz"},
		{"context:named": web.URL + "/context.tar.gz"},
	} {
		for _, name := range []string{"dockerfile.v0", "gateway.v0"} {
			options["source"] = "docker/dockerfile:1"
			_, err := s.controller.Solve(context.Background(), &controlapi.SolveRequest{Ref: identity.NewID(), Frontend: name, FrontendAttrs: options})
			if err == nil || !strings.Contains(err.Error(), "is not implemented by the builder") {
				t.Errorf("%v: %v", options, err)
			}
		}
	}
	if times := asked.Load(); times != 0 {
		t.Errorf("asked %d times", times)
	}
}

func TestContextsOfSessionsImagesAndRepositoriesAreNotRefused(t *testing.T) {
	for _, options := range []map[string]string{
		// So buildx sends a Dockerfile of standard input: in an own directory, beside an empty context.
		{"filename": "Dockerfile"},
		{"context": ""},
		{"context:files": "local:files", "context:image": "docker-image://registry.example/who/name.git:1", "context:made": "input:made", "context:layout": "oci-layout://name@sha256:1"},
		{"context": "https://files.example/repository.git#main:dir"},
		{"context": "git@files.example:who/repository.git"},
		{"context:named": "git://files.example/repository", "context:named::linux/amd64": "https://files.example/repository.git"},
		{"filename": "http://files.example/Dockerfile"},
	} {
		if err := refuseRemote(options); err != nil {
			t.Errorf("%v: %v", options, err)
		}
	}
}
