package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// specLimit bounds the size of a specification.
const specLimit = 4 << 20

// readSpec reads shim.json.
func readSpec(name string) (*shimspec.Spec, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read the shim's specification: %w", err)
	}
	if info.Size() > specLimit {
		return nil, fmt.Errorf("the shim's specification has %d bytes", info.Size())
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the shim's specification: %w", err)
	}
	spec := &shimspec.Spec{}
	if err := json.Unmarshal(content, spec); err != nil {
		return nil, fmt.Errorf("parse the shim's specification: %w", err)
	}
	if spec.Version != shimspec.Version {
		return nil, fmt.Errorf("the shim's specification has version %d, this agent knows %d", spec.Version, shimspec.Version)
	}
	if spec.ContainerID == "" || spec.Runtime == "" || spec.AgentSocket == "" || spec.ExitRecord == "" || spec.ReadyRecord == "" {
		return nil, fmt.Errorf("the shim's specification %s is not complete", name)
	}
	return spec, nil
}

// exitRecords writes the state for the host process.
type exitRecords struct {
	spec   func() *shimspec.Spec // of the current generation
	logger *slog.Logger

	mu      sync.Mutex
	written bool          // since the last sync began
	syncing chan struct{} // closed once everything written is synced; nil: it is
}

// write makes the state survive this process at once, and a crash of the machine
// soon: nobody waits for the disk to learn of the container's exit, and a
// truncated record counts as none.
func (e *exitRecords) write(state *agentv1.ContainerState) error {
	encoded, err := protojson.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the container's state: %w", err)
	}
	spec := e.spec()
	record, err := shimspec.ExitRecord{
		Version:     shimspec.Version,
		ContainerID: spec.ContainerID,
		Generation:  spec.Generation,
	}.WithState(encoded)
	if err == nil {
		err = writeJSON(spec.ExitRecord, record)
	}
	faultpoint.Reached("shim.end.recorded")
	if err == nil {
		e.syncSoon()
	}
	return err
}

// syncSoon syncs in one goroutine, however many execs end.
func (e *exitRecords) syncSoon() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.written = true
	if e.syncing == nil {
		e.syncing = make(chan struct{})
		go e.syncAll()
	}
}

func (e *exitRecords) syncAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.written {
		e.written = false
		e.mu.Unlock()
		e.sync()
		e.mu.Lock()
	}
	close(e.syncing)
	e.syncing = nil
}

// sync writes the record to disk, its name included: both are in the file
// system's journal.
func (e *exitRecords) sync() {
	file, err := os.Open(e.spec().ExitRecord)
	if errors.Is(err, os.ErrNotExist) {
		return // the container has been removed
	}
	if err == nil {
		err = errors.Join(file.Sync(), file.Close())
	}
	if err != nil {
		e.logger.Warn("the exit record is not on the disk yet", "error", err)
	}
}

// wait returns when everything written is synced.
func (e *exitRecords) wait() {
	e.mu.Lock()
	syncing := e.syncing
	e.mu.Unlock()
	if syncing != nil {
		<-syncing
	}
}

// writeJSON replaces a file atomically.
func writeJSON(name string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(name), err)
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(file.Name()) // fails once it is renamed
	_, err = file.Write(append(content, '\n'))
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
