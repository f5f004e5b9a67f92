package layers

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/confined"
)

// givenPrefix begins the names of layers of what containers are given; one that
// is being made has a name of its own until it is whole.
const (
	givenPrefix     = "given-"
	givenUnfinished = ".given-"
)

// ContainerStack is Stack with the layer on top of what every container is given
// over its image. Containers of an image share it: nobody writes to it. It is
// made for the first of them, lies beside the topmost layer and goes with it.
// Errors as Stack.
func (s *Store) ContainerStack(diffIDs []string) (Stack, error) {
	stack, err := s.Stack(diffIDs)
	if err != nil {
		return Stack{}, err
	}
	return s.withGiven(stack, diffIDs)
}

func (s *Store) withGiven(image Stack, diffIDs []string) (Stack, error) {
	given := filepath.Join(filepath.Dir(image.Lower[0]), s.givenName(image.Lower))
	if _, err := os.Lstat(given); err != nil {
		if err := makeGiven(given, image.Lower); err != nil {
			if _, gone := s.Stack(diffIDs); gone != nil { // removed meanwhile
				return Stack{}, gone
			}
			return Stack{}, fmt.Errorf("lay over the image: %w", err)
		}
	}
	image.Lower = slices.Insert(image.Lower, 0, given)
	return image, nil
}

// givenName is another with each boot of the machine, since nobody waits until
// one is safe on disk: a crash may leave a part, which is not believed then.
func (s *Store) givenName(lower []string) string {
	sum := sha256.Sum256([]byte(strings.Join(lower, "\n")))
	return s.givenOfBoot() + hex.EncodeToString(sum[:nameLength/2])
}

func (s *Store) givenOfBoot() string { return givenPrefix + s.boot[:min(8, len(s.boot))] + "-" }

// makeGiven needs no lock: of two that make the same one comes second.
func makeGiven(given string, lower []string) error {
	unfinished := filepath.Join(filepath.Dir(given), givenUnfinished+rand.Text())
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return err
	}
	err := archive.LayOver(unfinished, lower)
	faultpoint.Reached("host.layer.given")
	if err == nil {
		err = os.Rename(unfinished, given)
	}
	if err != nil {
		removeErr := confined.RemovePath(unfinished)
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
			return removeErr
		}
		return errors.Join(err, removeErr)
	}
	return nil
}

// reviewGiven deletes what earlier boots of the machine and processes that were
// killed left in a layer. Nobody uses it, so that it may stay where it cannot go.
func (s *Store) reviewGiven(dir string) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		name := entry.Name()
		stale := strings.HasPrefix(name, givenPrefix) && !strings.HasPrefix(name, s.givenOfBoot())
		if stale || strings.HasPrefix(name, givenUnfinished) {
			err = errors.Join(err, confined.RemovePath(filepath.Join(dir, name)))
		}
	}
	if err != nil {
		slog.Warn("what containers were given stays on disk", "layer", filepath.Base(dir), "error", err)
	}
}
