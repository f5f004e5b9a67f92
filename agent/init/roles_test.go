package containerinit

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// pipeListener hands out one end of a pipe.
type pipeListener struct {
	net.Listener
	end net.Conn
}

func (l pipeListener) Accept() (net.Conn, error) { return l.end, nil }

func dialled(t *testing.T) (conn net.Conn, backend net.Conn) {
	t.Helper()
	ours, backend := net.Pipe()
	conn, err := dialledListener{pipeListener{end: ours}}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); backend.Close() })
	return conn, backend
}

func TestOnlyWhomSomebodyVouchesForIsAnswered(t *testing.T) {
	called, backend := dialled(t)
	for name, c := range map[string]struct {
		conn   net.Conn
		status int
	}{
		"a connection that this process has dialled": {called, http.StatusOK},
		"a connection of another kind":               {backend, http.StatusForbidden},
	} {
		answered := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		request := httptest.NewRequest(http.MethodPost, agentv1connect.AgentServiceListenersProcedure, nil)
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		rule := &clientRule{containerID: "c"}
		byRole(answered).ServeHTTP(recorder, request.WithContext(rule.withRole(t.Context(), c.conn)))
		if recorder.Code != c.status {
			t.Errorf("%s is answered with %d", name, recorder.Code)
		}
	}
}

func TestWindowsOfTheBackendThatWasDialledAreGivenBackInLargePieces(t *testing.T) {
	conn, backend := dialled(t)
	settings, credit := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}, []byte{0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 1, 0}
	go func() {
		defer conn.Close()
		for _, frame := range [][]byte{settings, credit, settings} {
			if _, err := conn.Write(frame); err != nil {
				t.Error(err)
			}
		}
	}()
	if got, err := io.ReadAll(backend); !bytes.Equal(got, bytes.Repeat(settings, 2)) {
		t.Errorf("%x, %v", got, err)
	}
}
