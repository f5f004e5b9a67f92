package shimspec

import "encoding/json"

// ExitRecord is exit.json: how the last generation of a container ended. It is
// written after all output is recorded and before any watcher learns of the end.
type ExitRecord struct {
	Version     int    `json:"version"`
	ContainerID string `json:"container_id"`
	Generation  uint64 `json:"generation"`
	// State is a sockerless.agent.v1.ContainerState in ProtoJSON.
	State json.RawMessage `json:"state"`
}
