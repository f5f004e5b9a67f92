package worker

import (
	"github.com/containerd/containerd/v2/pkg/filters"
	"github.com/moby/buildkit/client"
)

// parseFilters converts BuildKit's filters to a predicate; one of them must match.
func parseFilters(texts []string) (func(*client.UsageInfo) bool, error) {
	filter, err := filters.ParseAll(texts...)
	if err != nil {
		return nil, err
	}
	return func(info *client.UsageInfo) bool {
		return len(texts) == 0 || filter.Match(filters.AdapterFunc(func(path []string) (string, bool) { return fieldOf(info, path) }))
	}, nil
}

func fieldOf(info *client.UsageInfo, path []string) (string, bool) {
	if len(path) == 0 {
		return "", false
	}
	switch path[0] {
	case "id":
		return info.ID, info.ID != ""
	case "parents":
		for _, parent := range info.Parents {
			return parent, true
		}
		return "", false
	case "description":
		return info.Description, info.Description != ""
	case "inuse":
		return "", info.InUse
	case "mutable":
		return "", info.Mutable
	case "immutable":
		return "", !info.Mutable
	case "type":
		return string(info.RecordType), info.RecordType != ""
	case "shared":
		return "", info.Shared
	case "private":
		return "", !info.Shared
	}
	return "", false
}
