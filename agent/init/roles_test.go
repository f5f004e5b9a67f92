package containerinit

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

func TestOnlyWhomSomebodyVouchesForIsAnswered(t *testing.T) {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	answered := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	request := httptest.NewRequest(http.MethodPost, agentv1connect.AgentServiceListenersProcedure, nil)
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	own := &standings{}
	own.Store(&standing{rule: &clientRule{containerID: "c"}})
	own.byRole(answered).ServeHTTP(recorder, request.WithContext(own.withRole(t.Context(), ours)))
	if recorder.Code != http.StatusForbidden {
		t.Errorf("a connection that was not admitted is answered with %d", recorder.Code)
	}
}

func TestConnectionsToSocketsAreForNoOtherContainer(t *testing.T) {
	own := &container{stock: &stock{}}
	for _, of := range []role{0, partners, peers} {
		if _, err := own.AcceptAt(context.WithValue(t.Context(), roleKey{}, of), "/agent"); !errors.Is(err, errNotForPartners) {
			t.Errorf("role %d is answered %v", of, err)
		}
	}
}
