package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"time"

	"github.com/moby/buildkit/client"
)

// cacheRecord is Docker's BuildCache.
type cacheRecord struct {
	ID          string
	Parents     []string `json:",omitempty"`
	Type        string
	Description string
	InUse       bool
	Shared      bool
	Size        int64
	CreatedAt   time.Time
	LastUsedAt  *time.Time
	UsageCount  int
}

// usage lists the build cache, for one request at a time: each has all records in memory.
func (s *Server) usage(w http.ResponseWriter, r *http.Request) {
	if err := s.listing.Acquire(r.Context(), 1); err != nil {
		writeError(w, http.StatusServiceUnavailable, "the builder is shutting down") // or the client has left
		return
	}
	defer s.listing.Release(1)
	infos, err := s.worker.DiskUsage(r.Context(), client.DiskUsageInfo{})
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	records := make([]cacheRecord, len(infos))
	for at, info := range infos {
		records[at] = cacheRecord{
			ID: info.ID, Parents: info.Parents, Type: string(info.RecordType), Description: info.Description, InUse: info.InUse,
			Shared: info.Shared, Size: info.Size, CreatedAt: info.CreatedAt, LastUsedAt: info.LastUsedAt, UsageCount: info.UsageCount,
		}
	}
	writeJSON(w, http.StatusOK, records)
}

// prune serves `docker builder prune`. The frontend has validated the query.
func (s *Server) prune(w http.ResponseWriter, r *http.Request) {
	options, err := pruneOptions(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	removed := make(chan client.UsageInfo, 64)
	ended := make(chan error, 1)
	go func() {
		ended <- s.worker.Prune(r.Context(), removed, options)
		close(removed)
	}()
	report := struct {
		CachesDeleted  []string
		SpaceReclaimed int64
	}{}
	for info := range removed {
		report.CachesDeleted = append(report.CachesDeleted, info.ID)
		report.SpaceReclaimed += info.Size
	}
	err = <-ended
	if len(report.CachesDeleted) > 0 {
		// Keys of removed states are dangling.
		err = errors.Join(err, s.cache.ReleaseUnreferenced(context.WithoutCancel(r.Context())))
	}
	if err != nil {
		writeError(w, http.StatusInternalServerError, fmt.Sprintf("failed to prune build cache: %s", err))
		return
	}
	writeJSON(w, http.StatusOK, report)
}

// pruneOptions converts Docker's query to BuildKit's options, as moby does.
func pruneOptions(query map[string][]string) (client.PruneInfo, error) {
	first := func(name string) string {
		if values := query[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	var options client.PruneInfo
	options.All = first("all") == "1" || first("all") == "true"
	for name, into := range map[string]*int64{
		"keep-storage": &options.ReservedSpace, "reserved-space": &options.ReservedSpace, "max-used-space": &options.MaxUsedSpace, "min-free-space": &options.MinFreeSpace,
	} {
		if text := first(name); text != "" {
			value, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return options, err
			}
			*into = max(*into, value)
		}
	}
	wanted := map[string]map[string]bool{}
	if text := first("filters"); text != "" {
		if err := json.Unmarshal([]byte(text), &wanted); err != nil {
			// Clients before API 1.22 send lists.
			lists := map[string][]string{}
			if err := json.Unmarshal([]byte(text), &lists); err != nil {
				return options, err
			}
			for key, values := range lists {
				wanted[key] = map[string]bool{}
				for _, value := range values {
					wanted[key][value] = true
				}
			}
		}
	}
	var terms []string
	for key, values := range wanted {
		for value := range values {
			switch key {
			case "until", "unused-for":
				// The frontend, which parses Docker's time formats, has converted each to Unix seconds.
				seconds, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return options, err
				}
				options.KeepDuration = time.Since(time.UnixMilli(int64(seconds * 1000)))
			case "inuse", "shared", "private":
				terms = append(terms, key)
			case "label", "label!":
				// Cache records have no labels.
			case "parent":
				terms = append(terms, "parents=="+strconv.Quote(value))
			case "id":
				terms = append(terms, "id~="+strconv.Quote(value))
			default:
				terms = append(terms, key+"=="+strconv.Quote(value))
			}
		}
	}
	if len(terms) > 0 {
		sort.Strings(terms)
		joined := terms[0]
		for _, term := range terms[1:] {
			joined += "," + term
		}
		options.Filter = []string{joined}
	}
	return options, nil
}
