package host_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/hungfs"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

func TestDisksAreMeasured(t *testing.T) {
	h := startHost(t)
	id := h.create(t, h.unpackImage(t))
	volume := h.volume(t, "data")
	assert.NilError(t, errors.Join(
		os.WriteFile(filepath.Join(volume, "file"), make([]byte, 321), 0o600),
		os.WriteFile(filepath.Join(h.stateDir, "containers", id, "upper/file"), make([]byte, 123), 0o600),
	))

	missing := "00000000000000000000000000000000000000000000000000000000000000ff"
	sizes, err := h.MeasureDisk(t.Context(), connect.NewRequest(&hostv1.MeasureDiskRequest{
		ContainerIds: []string{id, missing}, VolumeNames: []string{"data", "gone"},
	}))
	assert.NilError(t, err)
	if got := sizes.Msg.Containers; !maps.Equal(got, map[string]uint64{id: 123, missing: 0}) {
		t.Error(got)
	}
	if got := sizes.Msg.Volumes; !maps.Equal(got, map[string]uint64{"data": 321, "gone": 0}) {
		t.Error(got)
	}
	for _, wrong := range []*hostv1.MeasureDiskRequest{
		{ContainerIds: []string{"../" + id}},
		{VolumeNames: []string{"../layers"}},
	} {
		if _, err := h.MeasureDisk(t.Context(), connect.NewRequest(wrong)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Error(err)
		}
	}
}

func TestVolumesThatDoNotAnswerKeepNobodyFromMeasuringContainers(t *testing.T) {
	h := startHost(t)
	id := h.create(t, h.unpackImage(t))
	for n := range 10 {
		name := fmt.Sprint("away", n)
		hungfs.Mount(t, h.volume(t, name))
		ctx, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer leave()
		if _, err := h.MeasureDisk(ctx, connect.NewRequest(&hostv1.MeasureDiskRequest{VolumeNames: []string{name}})); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Fatal(err)
		}
	}
	ctx, leave := context.WithTimeout(t.Context(), 20*time.Second)
	defer leave()
	_, err := h.MeasureDisk(ctx, connect.NewRequest(&hostv1.MeasureDiskRequest{ContainerIds: []string{id}}))
	assert.Check(t, err)
}
