// Package layers unpacks image layers into lower directories for overlayfs.
//
// On disk (see docs/formats.md): <dir>/<first 24 hex of the diff ID>/diff is the
// lower directory; layer.json beside it is written before the directory gets its
// name; given-*/diff beside them lies on top of an image that ends with the
// layer; <dir>/.unpacking-* is unfinished work.
package layers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	"github.com/sockerless/sockerless/agent/core/damage"
	"github.com/sockerless/sockerless/agent/host/batch"
	"github.com/sockerless/sockerless/agent/host/keylock"
	"github.com/sockerless/sockerless/agent/host/trash"
)

const (
	unfinished = ".unpacking-"
	emptyName  = "empty"
	recordName = "layer.json"
	// nameLength lets 127 layers fit the option page of older kernels. 96 bits
	// suffice, since the whole diff ID in layer.json is compared too.
	nameLength = 24
	version    = 1
	// mostUnpacks bounds the blobs that are unpacked, each on three threads.
	mostUnpacks = 512
)

// Store holds the unpacked layers of one instance.
type Store struct {
	dir  string
	boot string
	// trash deletes in the background: others wait for what unpacks or removes a
	// layer, all for Open, and millions of files take minutes.
	trash     *trash.Can
	locks     keylock.Locks
	flusher   *batch.Queue
	given     givenIndex
	unpacking *semaphore.Weighted // mostUnpacks

	uploads      byID[Upload]
	archives     byID[Archive]
	imageUploads byID[ImageUpload]
}

// Layer is layer.json.
type Layer struct {
	Version int    `json:"version"`
	DiffID  string `json:"diff_id"`
	Size    uint64 `json:"size"` // bytes of regular files
	TarSize uint64 `json:"tar_size,omitempty"`
	// RootStated means that the tar had an entry for the root directory itself,
	// so that its owner and mode count.
	RootStated bool `json:"root_stated"`
	// RootOpaque means that the layer hides everything beneath it. overlayfs
	// ignores its opaque mark on a root directory, so Stack omits the layers
	// beneath.
	RootOpaque bool `json:"root_opaque,omitempty"`
	// BootID of the machine when the layer was unpacked; see durable.go.
	BootID string `json:"boot_id"`
}

// Open creates the store's directory and discards what earlier processes left
// unfinished. Nobody else may be unpacking into it. The can is on the same file
// system.
func Open(dir string, can *trash.Can) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, emptyName, "diff"), 0o755); err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	// A correct mode is left alone: the disk may be read-only.
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		if err := errors.Join(err, os.Chmod(dir, 0o700)); err != nil {
			return nil, fmt.Errorf("open layers: %w", err)
		}
	}
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open layers: %w", err)
	}
	s := &Store{dir: dir, trash: can, boot: boot, flusher: newFlusher(dir), unpacking: semaphore.NewWeighted(mostUnpacks), given: givenIndex{over: map[string]map[string][]string{}}}
	for _, entry := range entries {
		if err := s.review(filepath.Join(dir, entry.Name())); err != nil {
			s.Close()
			return nil, fmt.Errorf("open layers: %w", err)
		}
	}
	for _, entry := range entries { // once it is known which layers remain
		s.reviewGiven(filepath.Join(dir, entry.Name()))
	}
	return s, nil
}

// Close waits briefly until unpacked layers are on disk.
func (s *Store) Close() { s.flusher.Settle(farewell) }

func (s *Store) review(dir string) error {
	if strings.HasPrefix(filepath.Base(dir), unfinished) {
		return s.trash.Discard(dir)
	}
	if filepath.Base(dir) == emptyName {
		return nil
	}
	switch s.durabilityOf(dir, recordName) {
	case damaged:
		return s.trash.Discard(dir)
	case unsynced:
		s.flusher.Add(dir)
	}
	return nil
}

var diffIDPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) })

func (s *Store) path(diffID string) (string, error) {
	if !diffIDPattern().MatchString(diffID) {
		return "", connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not a sha256 diff ID", diffID))
	}
	return filepath.Join(s.dir, diffID[len("sha256:"):][:nameLength]), nil
}

// find reads layer.json; NOT_FOUND if the layer is not unpacked.
func (s *Store) find(diffID string) (dir string, layer Layer, err error) {
	dir, err = s.path(diffID)
	if err != nil {
		return "", layer, err
	}
	layer, err = readLayer(dir)
	if errors.Is(err, os.ErrNotExist) {
		return dir, layer, connect.NewError(connect.CodeNotFound, fmt.Errorf("layer %s is not unpacked", diffID))
	}
	if errors.Is(err, errDamaged) || err == nil && layer.Version == version && layer.DiffID != diffID {
		slog.Warn("a layer with a damaged record is unpacked anew", "path", filepath.Join(dir, recordName), "error", err)
		return dir, layer, connect.NewError(connect.CodeNotFound, fmt.Errorf("layer %s is not unpacked: its record is damaged", diffID))
	}
	if err != nil {
		return "", layer, fmt.Errorf("layer %s: %w", diffID, err)
	}
	if layer.Version != version {
		return "", layer, fmt.Errorf("%s holds version %d of layer %s", dir, layer.Version, diffID)
	}
	return dir, layer, nil
}

func readLayer(dir string) (layer Layer, err error) {
	content, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil && !damage.IsOf(err) {
		return layer, err
	}
	if err := cmp.Or(err, json.Unmarshal(content, &layer)); err != nil {
		return layer, errors.Join(errDamaged, err)
	}
	return layer, nil
}

// errDamaged means that a record cannot be read or parsed.
var errDamaged = errors.New("the record is damaged")

// List returns the diff IDs of all layers, except unreadable ones.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var found []string
	for _, entry := range entries {
		if name := entry.Name(); name == emptyName || strings.HasPrefix(name, unfinished) {
			continue
		}
		if layer, err := readLayer(filepath.Join(s.dir, entry.Name())); err == nil && layer.Version == version {
			found = append(found, layer.DiffID)
		}
	}
	return found, nil
}

// Stack is the lower part of an overlay.
type Stack struct {
	Lower []string // directories, top first; never empty
	// RootSource is the directory whose owner and mode the container's root
	// directory gets; empty if no layer states them.
	RootSource string
}

// Stack finds the layers' directories; diffIDs are ordered bottom first.
// NOT_FOUND: one is not unpacked. A repeated layer counts only at its topmost
// place: it hides itself beneath, and overlayfs accepts no directory twice.
func (s *Store) Stack(diffIDs []string) (Stack, error) {
	if len(diffIDs) == 0 {
		return Stack{Lower: []string{filepath.Join(s.dir, emptyName, "diff")}}, nil
	}
	stack := Stack{Lower: make([]string, 0, len(diffIDs))}
	for i := range diffIDs {
		dir, layer, err := s.find(diffIDs[len(diffIDs)-1-i])
		if err != nil {
			return Stack{}, err
		}
		diff := filepath.Join(dir, "diff")
		if !slices.Contains(stack.Lower, diff) {
			stack.Lower = append(stack.Lower, diff)
		}
		if layer.RootStated && stack.RootSource == "" {
			stack.RootSource = diff
		}
		if layer.RootOpaque {
			break
		}
	}
	return stack, nil
}

// Remove deletes a layer; a missing one is not an error. The caller ensures that
// no container uses it.
func (s *Store) Remove(ctx context.Context, diffID string) error {
	dir, err := s.path(diffID)
	if err != nil {
		return err
	}
	unlock, err := s.locks.Lock(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	if _, _, err := s.find(diffID); err != nil && connect.CodeOf(err) != connect.CodeNotFound {
		return err
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := s.trash.Discard(dir); err != nil {
		return fmt.Errorf("remove layer %s: %w", diffID, err)
	}
	s.dropGiven(filepath.Base(dir))
	return nil
}

// publish gives a finished directory its name.
func (s *Store) publish(temporary, dir string, layer Layer) error {
	layer.BootID = s.boot
	content, err := json.Marshal(layer)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temporary, recordName), content, 0o600); err != nil {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return err
	}
	s.flusher.Add(dir)
	return nil
}
