package host

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
	"github.com/sockerless/sockerless/agent/host/disk"
)

// MeasureDisk measures writable layers and volumes.
func (s *service) MeasureDisk(ctx context.Context, r *connect.Request[hostv1.MeasureDiskRequest]) (*connect.Response[hostv1.MeasureDiskResponse], error) {
	containers, err := measureEach(ctx, r.Msg.ContainerIds, s.containers.WritableLayer)
	if err != nil {
		return nil, wireError(err)
	}
	volumes, err := measureEach(ctx, r.Msg.VolumeNames, s.volumes.Directory)
	return answer(&hostv1.MeasureDiskResponse{Containers: containers, Volumes: volumes}, err)
}

func measureEach(ctx context.Context, names []string, directoryOf func(string) (string, error)) (map[string]uint64, error) {
	sizes := make(map[string]uint64, len(names))
	for _, name := range names {
		directory, err := directoryOf(name)
		if err != nil {
			return nil, err
		}
		if sizes[name], err = disk.Measure(ctx, directory); err != nil {
			return nil, fmt.Errorf("measure %s: %w", name, err)
		}
	}
	return sizes, nil
}
