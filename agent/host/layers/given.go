package layers

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/faultpoint"
)

// givenPrefix begins the names of the directories with the files that every
// container gets; unfinished ones have another name.
const (
	givenPrefix     = "given-"
	givenUnfinished = ".given-"
	givenRecordName = "given.json"
)

// givenRecord is given.json.
type givenRecord struct {
	Version int      `json:"version"`
	Lower   []string `json:"lower"`   // names of the image's layers, top first
	BootID  string   `json:"boot_id"` // of the machine when it was made; see durable.go
}

// ContainerStack is Stack with the layer of files that every container gets on
// top of its image. Containers of an image share it, read-only. It is created for
// the first of them, lies beside the topmost layer and is removed with any layer
// of the image. Errors as Stack.
func (s *Store) ContainerStack(diffIDs []string) (Stack, error) {
	stack, err := s.Stack(diffIDs)
	if err != nil {
		return Stack{}, err
	}
	return s.withGiven(stack, diffIDs)
}

func (s *Store) withGiven(image Stack, diffIDs []string) (Stack, error) {
	names := namesOf(image.Lower)
	given := filepath.Join(s.dir, names[0], givenName(names))
	if !s.isWhole(given) {
		if err := s.makeGiven(given, names, image.Lower); err != nil {
			if _, gone := s.Stack(diffIDs); gone != nil { // removed meanwhile
				return Stack{}, gone
			}
			return Stack{}, fmt.Errorf("lay over the image: %w", err)
		}
	}
	image.Lower = slices.Insert(image.Lower, 0, filepath.Join(given, "diff"))
	return image, nil
}

// namesOf returns the names of the layers in these directories.
func namesOf(lower []string) []string {
	names := make([]string, len(lower))
	for i, diff := range lower {
		names[i] = filepath.Base(filepath.Dir(diff))
	}
	return names
}

func givenName(names []string) string {
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return givenPrefix + hex.EncodeToString(sum[:nameLength/2])
}

// isWhole reports whether no crash of the machine can have left it incomplete.
func (s *Store) isWhole(given string) bool {
	return s.durabilityOf(given, givenRecordName) != damaged
}

func readGiven(given string) (record givenRecord, err error) {
	content, err := os.ReadFile(filepath.Join(given, givenRecordName))
	if err != nil {
		return record, err
	}
	return record, json.Unmarshal(content, &record)
}

// makeGiven needs no lock: if two create the same one, the second rename fails.
func (s *Store) makeGiven(given string, names, lower []string) error {
	unfinished := filepath.Join(filepath.Dir(given), givenUnfinished+rand.Text())
	if err := os.Mkdir(unfinished, 0o755); err != nil {
		return err
	}
	err := s.fillGiven(unfinished, names, lower)
	faultpoint.Reached("host.layer.given")
	if err == nil {
		err = os.Rename(unfinished, given)
	}
	if err != nil {
		removeErr := s.trash.Discard(unfinished)
		if (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY)) && s.isWhole(given) {
			return removeErr
		}
		return errors.Join(err, removeErr)
	}
	s.given.add(given, names)
	s.flusher.Add(given)
	if !s.hasLayers(names) { // one was removed meanwhile
		return errors.Join(os.ErrNotExist, s.trash.Discard(given))
	}
	return nil
}

func (s *Store) fillGiven(dir string, names, lower []string) error {
	diff := filepath.Join(dir, "diff")
	if err := os.Mkdir(diff, 0o755); err != nil {
		return err
	}
	if err := archive.LayOver(diff, lower); err != nil {
		return err
	}
	content, err := json.Marshal(givenRecord{version, names, s.boot})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, givenRecordName), content, 0o600)
}

// reviewGiven deletes incomplete directories in a layer, and those of images that
// have lost a layer. They are unused, so a failed deletion does no harm.
func (s *Store) reviewGiven(dir string) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return // the layer itself was not believed
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), givenUnfinished):
			err = errors.Join(err, s.trash.Discard(path))
		case strings.HasPrefix(entry.Name(), givenPrefix):
			err = errors.Join(err, s.reviewOneGiven(path))
		}
	}
	warnGivenStays(dir, err)
}

func (s *Store) reviewOneGiven(given string) error {
	record, unread := readGiven(given)
	if !s.isWhole(given) || errors.Is(unread, os.ErrNotExist) || !s.hasLayers(record.Lower) {
		return s.trash.Discard(given)
	}
	s.given.add(given, record.Lower)
	if s.durabilityOf(given, givenRecordName) == unsynced {
		s.flusher.Add(given)
	}
	return nil
}

// hasLayers reports whether all of these exist, as far as is known.
func (s *Store) hasLayers(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		_, err := os.Lstat(filepath.Join(s.dir, name))
		return errors.Is(err, os.ErrNotExist)
	})
}

// dropGiven deletes the directories of images that had the layer.
func (s *Store) dropGiven(layer string) {
	var err error
	for _, given := range s.given.take(layer) {
		err = errors.Join(err, s.trash.Discard(given))
	}
	warnGivenStays(layer, err)
}

// givenIndex finds directories by any layer of their images: a removal reads no
// others.
type givenIndex struct {
	mu   sync.Mutex
	over map[string]map[string][]string // by layer and directory: the image's layers
}

func (g *givenIndex) add(given string, layers []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, layer := range layers {
		if g.over[layer] == nil {
			g.over[layer] = map[string][]string{}
		}
		g.over[layer][given] = layers
	}
}

// take returns and forgets the directories over a layer.
func (g *givenIndex) take(layer string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := g.over[layer]
	for given, layers := range found {
		for _, each := range layers {
			if each != layer {
				delete(g.over[each], given)
			}
			if len(g.over[each]) == 0 {
				delete(g.over, each)
			}
		}
	}
	delete(g.over, layer)
	return slices.Collect(maps.Keys(found))
}

func warnGivenStays(layer string, err error) {
	if err != nil {
		slog.Warn("files for containers stay on disk", "layer", filepath.Base(layer), "error", err)
	}
}
