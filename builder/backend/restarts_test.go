package backend_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/builder/backend"
	"github.com/sockerless/sockerless/builder/backend/backendtest"
)

// cutting loses the response of a procedure's first call, after its work.
func cutting(server *backendtest.Backend, procedure string) {
	isCut := false
	server.After = func(called string) {
		if called == procedure && !isCut {
			isCut = true
			panic(http.ErrAbortHandler)
		}
	}
}

func TestACommitWhoseAnswerIsLostMakesOneImage(t *testing.T) {
	server, client := backendtest.Start(t)
	cutting(server, "CommitContainer")
	made, err := client.CommitContainer(context.Background(), "any", nil, []byte("{}"))
	assert.NilError(t, err)
	if there := server.Images(); len(there) != 1 || there[0] != made.ID {
		t.Errorf("has %v instead of %s", there, made.ID)
	}
}

func TestAnImageIsSentAgainFromItsBegin(t *testing.T) {
	server, client := backendtest.Start(t)
	cutting(server, "LoadImage")
	top := &backend.Layer{DiffID: digest.FromString("content"), Size: 7, Content: strings.NewReader("content")}
	_, err := client.InstallImage(context.Background(), []byte("{}"), nil, top, nil, true)
	assert.Check(t, err)
}

func TestAStartWithSecretsIsNotRepeated(t *testing.T) {
	server, client := backendtest.Start(t)
	starts := 0
	server.Before = func(called string) {
		if called == "StartContainer" {
			starts++
			panic(http.ErrAbortHandler)
		}
	}
	err := client.StartContainer(context.Background(), "any", backend.Secrets{Env: []string{"A=1"}})
	if err = backend.Plain(err); err == nil || !strings.Contains(err.Error(), "the backend went away while it started a step with secrets") || starts != 1 {
		t.Errorf("started it %d times: %v", starts, err)
	}
}

func TestAnArchiveThatIsCutIsReadAgain(t *testing.T) {
	server, client := backendtest.Start(t)
	var packed bytes.Buffer
	writer := tar.NewWriter(&packed)
	wanted := strings.Repeat("x", 5000)
	if err := errors.Join(writer.WriteHeader(&tar.Header{Name: "file", Size: 5000}), second(io.WriteString(writer, wanted)), writer.Close()); err != nil {
		t.Fatal(err)
	}
	server.Archive = packed.Bytes()
	cutting(server, "ArchiveGet")
	var got []byte
	times := 0
	err := client.ReadArchive(context.Background(), "any", "/file", func(archive *tar.Reader) (err error) {
		times++
		if _, err = archive.Next(); err == nil {
			got, err = io.ReadAll(archive)
		}
		return err
	})
	if err != nil || times != 2 || string(got) != wanted {
		t.Errorf("read %d bytes in %d attempts: %v", len(got), times, err)
	}
}

func second(_ int, err error) error { return err }
