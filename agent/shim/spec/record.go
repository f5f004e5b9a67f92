package shimspec

import (
	"encoding/json"
	"hash/crc32"
)

// ExitRecord is exit.json: how the last generation of a container ended. It is
// written after all output is recorded and before any watcher learns of the end.
type ExitRecord struct {
	Version     int    `json:"version"`
	ContainerID string `json:"container_id"`
	Generation  uint64 `json:"generation"`
	// State is a sockerless.agent.v1.ContainerState in ProtoJSON.
	State json.RawMessage `json:"state"`
	// Checksum is the CRC-32 of State as it is in the file; 0: by an earlier version.
	Checksum uint32 `json:"checksum,omitempty"`
}

// WithState returns the record with a state in ProtoJSON.
func (r ExitRecord) WithState(state []byte) (ExitRecord, error) {
	written, err := json.Marshal(json.RawMessage(state)) // as it is within the record
	r.State, r.Checksum = written, crc32.ChecksumIEEE(written)
	return r, err
}

// IsWhole reports whether the state is as it was written: one with a damaged name of a
// field would still parse, with a code of 0.
func (r ExitRecord) IsWhole() bool {
	return r.Checksum == 0 || r.Checksum == crc32.ChecksumIEEE(r.State)
}
