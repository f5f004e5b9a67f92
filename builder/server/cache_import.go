package server

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	bkworker "github.com/moby/buildkit/worker"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// importLimit bounds the time in which a cache is found and described, by two megabytes at most.
const importLimit = 30 * time.Second

// boundedImport limits the time of resolve and of the importer that it returns. BuildKit does not cancel an import with
// its build, and other builds that share a step with that build wait for it.
func boundedImport(resolve remotecache.ResolveCacheImporterFunc, limit time.Duration) remotecache.ResolveCacheImporterFunc {
	return func(ctx context.Context, group session.Group, attributes map[string]string) (remotecache.Importer, ocispecs.Descriptor, error) {
		end := time.Now().Add(limit)
		tooLong := fmt.Errorf("the build cache was not described within %s", limit)
		ctx, cancel := context.WithDeadlineCause(ctx, end, tooLong)
		defer cancel()
		importer, desc, err := resolve(ctx, group, attributes)
		if err != nil {
			return nil, ocispecs.Descriptor{}, err
		}
		return &boundedImporter{importer, end, tooLong}, desc, nil
	}
}

type boundedImporter struct {
	remotecache.Importer
	end     time.Time
	tooLong error
}

func (i *boundedImporter) Resolve(ctx context.Context, desc ocispecs.Descriptor, id string, w bkworker.Worker) (manager solver.CacheManager, err error) {
	defer func() { // BuildKit allocates what a descriptor says, also a negative size.
		if reason := recover(); reason != nil {
			manager, err = nil, fmt.Errorf("sockerless: the build cache cannot be read: %v", reason)
		}
	}()
	ctx, cancel := context.WithDeadlineCause(ctx, i.end, i.tooLong)
	defer cancel()
	return i.Importer.Resolve(ctx, desc, id, w)
}
