package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/hungfs"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// answers fails the test unless the work ends although a file system does not
// answer.
func answers(t *testing.T, work func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		assert.Check(t, err)
	case <-time.After(5 * time.Second):
		t.Error("it waits for a file system that does not answer")
	}
}

func TestAMountedVolumeThatDoesNotAnswerIsListedAndCreatedAgain(t *testing.T) {
	s := openStore(t)
	options := map[string]string{"type": "nfs", "device": ":/x", "o": "addr=192.0.2.1"}
	request := &hostv1.CreateVolumeRequest{Name: "away", Driver: "local", Options: options}
	made, err := s.Create(t.Context(), request)
	s.must(err)
	s.make("plain", "local")
	hungfs.Mount(t, made.Path)
	answers(t, func() error {
		listed, err := s.List()
		if err == nil && len(listed) != 2 {
			err = fmt.Errorf("listed are %v", listed)
		}
		return err
	})
	answers(t, func() error {
		again, err := s.Create(t.Context(), request)
		if err == nil && again.Path != made.Path {
			err = fmt.Errorf("it is at %s", again.Path)
		}
		return err
	})
}

func TestACreationDoesNotWaitForAPathThatDoesNotAnswer(t *testing.T) {
	s := openStore(t)
	away := t.TempDir()
	hungfs.Mount(t, away)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	answers(t, func() error {
		_, err := s.Create(ctx, &hostv1.CreateVolumeRequest{
			Name: "v", Driver: "local", Options: map[string]string{"type": "none", "o": "bind", "device": away},
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
}

func TestVolumesThatAreNotThereAreNotListed(t *testing.T) {
	s := openStore(t)
	s.make("whole", "local")
	volumes := filepath.Join(s.dir, "volumes")
	s.must(errors.Join(
		os.MkdirAll(filepath.Join(volumes, "begun"), 0o700),
		os.MkdirAll(filepath.Join(volumes, "damaged", "_data"), 0o700),
		os.WriteFile(filepath.Join(volumes, "damaged", "volume.json"), []byte("{"), 0o600),
		os.Symlink("nowhere", filepath.Join(volumes, "detached")),
		os.WriteFile(filepath.Join(volumes, "file"), nil, 0o600),
	))
	listed, err := s.List()
	if err != nil || len(listed) != 1 || listed[0].Name != "whole" || time.Since(listed[0].Created.AsTime()) > time.Hour {
		t.Errorf("listed are %v, %v", listed, err)
	}
}
