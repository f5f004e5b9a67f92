package shim

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/descriptors/descriptorstest"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestExitRecordsAreThereAtOnceAndSyncedByOne(t *testing.T) {
	dir := t.TempDir()
	spec := &shimspec.Spec{ContainerID: "c", Generation: 7, ExitRecord: filepath.Join(dir, "exit.json")}
	records := &exitRecords{
		spec:   func() *shimspec.Spec { return spec },
		logger: slog.New(slog.DiscardHandler),
	}
	records.wait() // for nothing
	stacks := make([]byte, 1<<20)
	for code := range int32(200) {
		assert.NilError(t, records.write(&agentv1.ContainerState{Exit: &agentv1.ExitStatus{Code: code}}))
		content, err := os.ReadFile(spec.ExitRecord)
		assert.NilError(t, err)
		var record shimspec.ExitRecord
		if err := json.Unmarshal(content, &record); err != nil || record.Generation != 7 {
			t.Fatalf("%q: %v", content, err)
		}
		// All goroutines at the same moment: descriptors are checked one after
		// the other.
		if syncing := bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte(".(*exitRecords).sync(")); syncing > 1 {
			t.Fatalf("%d goroutines sync the record", syncing)
		}
	}
	records.wait()
	if open := descriptorstest.OpenBeneath(t, dir); open > 0 {
		t.Errorf("%d records are open", open)
	}
	assert.NilError(t, os.RemoveAll(dir))
	records.sync() // of a container that was removed: no error
}
