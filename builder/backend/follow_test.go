package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
)

func TestTheEndIsAskedForWhileOutputComes(t *testing.T) {
	server, client := backendtest.Start(t)
	server.ExitCode, server.Log = 3, []byte("line\n")
	asked := make(chan struct{})
	server.Before = func(called string) {
		switch called {
		case "WaitContainer":
			close(asked)
		case "Logs":
			<-asked
		}
	}
	var output bytes.Buffer
	if code, err := client.Follow(context.Background(), "any", false, &output, io.Discard); code != 3 || err != nil || output.String() != "line\n" {
		t.Errorf("ended with %d, %v, after %q", code, err, &output)
	}
}

func TestALostExitIsRequestedAgain(t *testing.T) {
	server, client := backendtest.Start(t)
	server.ExitCode = 3
	server.WaitError = connect.NewError(connect.CodeInternal, errors.New("a restart"))
	if code, err := client.Follow(context.Background(), "any", false, io.Discard, io.Discard); code != 3 || err != nil {
		t.Errorf("ended with %d, %v", code, err)
	}
}
