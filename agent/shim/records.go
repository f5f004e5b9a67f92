package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// specLimit bounds what is read of a specification.
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

// writeExitRecord keeps the state where the host process finds it.
func writeExitRecord(spec *shimspec.Spec, state *agentv1.ContainerState) error {
	encoded, err := protojson.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode the container's state: %w", err)
	}
	err = writeJSON(spec.ExitRecord, syncedToDisk, shimspec.ExitRecord{
		Version:     shimspec.Version,
		ContainerID: spec.ContainerID,
		Generation:  spec.Generation,
		State:       encoded,
	})
	faultpoint.Reached("shim.end.recorded")
	return err
}

// durability says what a record survives.
type durability bool

const (
	untilReboot  durability = false // a crash of any process
	syncedToDisk durability = true  // a crash of the machine, too
)

// writeJSON replaces a file in one step: a reader finds the old or the new
// content, whole.
func writeJSON(name string, survives durability, value any) error {
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
	if err == nil && survives == syncedToDisk {
		err = file.Sync()
	}
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
