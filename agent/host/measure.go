package host

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/disk"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// MeasureDisk measures writable layers and volumes.
func (s *service) MeasureDisk(ctx context.Context, r *connect.Request[hostv1.MeasureDiskRequest]) (*connect.Response[hostv1.MeasureDiskResponse], error) {
	containers, err := measureEach(ctx, s.layerMeter, r.Msg.ContainerIds, s.writableLayer)
	if err != nil {
		return nil, wireError(err)
	}
	volumes, err := measureEach(ctx, s.volumeMeter, r.Msg.VolumeNames, s.volumes.Measure)
	return answer(&hostv1.MeasureDiskResponse{Containers: containers, Volumes: volumes}, err)
}

func (s *service) writableLayer(ctx context.Context, id string) (uint64, error) {
	directory, err := s.containers.WritableLayer(id)
	if err != nil {
		return 0, err
	}
	return disk.Measure(ctx, directory)
}

func measureEach(ctx context.Context, meter *disk.Meter, names []string, measure func(context.Context, string) (uint64, error)) (map[string]uint64, error) {
	sizes := make(map[string]uint64, len(names))
	for _, name := range names {
		size, err := meter.Measure(ctx, name, func(ctx context.Context) (uint64, error) {
			return measure(ctx, name)
		})
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", name, err)
		}
		sizes[name] = size
	}
	return sizes, nil
}
