package server

import (
	"cmp"
	"context"
	"slices"

	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/buildkit/util/db"
	"github.com/moby/buildkit/util/leaseutil"
	bolt "go.etcd.io/bbolt"
)

// maxHistoryBytes bounds the history's records, and maxHistoryRecord each of them. BuildKit, which bounds them by their age
// alone, reads all of them at its start, from time to time, and for each list.
const (
	maxHistoryBytes  = 8 << 20
	maxHistoryRecord = 256 << 10
)

// history is the database of BuildKit's history.
type history struct {
	db     db.DB
	leases *leaseutil.Manager
	limit  int
}

// historyRecords is BuildKit's bucket of records by the builds' references.
var historyRecords = []byte("_records")

// bound drops the largest records until the rest, and each of it, is within the limits, and reports whether it has dropped any.
func (h *history) bound(ctx context.Context) (bool, error) {
	type record struct {
		ref  string
		size int
	}
	var records []record
	total, largest := 0, 0
	err := h.db.View(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(historyRecords)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(ref, data []byte) error {
			records = append(records, record{string(ref), len(data)})
			total += len(data)
			largest = max(largest, len(data))
			return nil
		})
	})
	if err != nil || (total <= h.limit && largest <= maxHistoryRecord) {
		return false, err
	}
	slices.SortFunc(records, func(a, b record) int { return cmp.Compare(b.size, a.size) })
	for _, each := range records {
		if total <= h.limit && each.size <= maxHistoryRecord {
			break
		}
		total -= each.size
		// BuildKit's lease of what belongs to the record. Without it BuildKit drops the record at its start; without the record
		// nobody would drop the lease.
		if err := h.leases.Delete(ctx, leases.Lease{ID: "ref_" + each.ref}); err != nil && !cerrdefs.IsNotFound(err) {
			return true, err
		}
		err := h.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(historyRecords).Delete([]byte(each.ref)) })
		if err != nil {
			return true, err
		}
	}
	return true, nil
}

// boundHistory keeps the history within its limit.
func (s *Server) boundHistory(ctx context.Context) error {
	dropped, err := s.history.bound(ctx)
	if err != nil || !dropped {
		return err
	}
	return s.worker.GarbageCollect(ctx)
}
