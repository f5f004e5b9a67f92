package server

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// counts are BuildKit's own figures of builds that have ended.
type counts struct {
	reader   *metric.ManualReader
	provider *metric.MeterProvider
}

func newCounts() *counts {
	reader := metric.NewManualReader()
	return &counts{reader, metric.NewMeterProvider(metric.WithReader(reader))}
}

// counted is the answer of `GET /build/counts`, since the builder has started.
type counted struct {
	Succeeded   int64 `json:"succeeded"`
	Failed      int64 `json:"failed"`
	Steps       int64 `json:"steps"` // those from the cache included
	CachedSteps int64 `json:"cachedSteps"`
}

func (c *counts) read(ctx context.Context) (counted, error) {
	var told metricdata.ResourceMetrics
	if err := c.reader.Collect(ctx, &told); err != nil {
		return counted{}, err
	}
	var sums counted
	for _, scope := range told.ScopeMetrics {
		for _, each := range scope.Metrics {
			data, _ := each.Data.(metricdata.Sum[int64])
			for _, point := range data.DataPoints {
				switch each.Name + " " + valueOf(point.Attributes, "status") + valueOf(point.Attributes, "kind") {
				case "buildkit.builds success":
					sums.Succeeded += point.Value
				case "buildkit.builds failure":
					sums.Failed += point.Value
				case "buildkit.builds.steps completed":
					sums.Steps += point.Value
				case "buildkit.builds.steps cached":
					sums.CachedSteps += point.Value
				}
			}
		}
	}
	return sums, nil
}

func valueOf(attributes attribute.Set, key attribute.Key) string {
	value, _ := attributes.Value(key)
	return value.AsString()
}

// serveCounts serves `GET /build/counts`.
func (s *Server) serveCounts(w http.ResponseWriter, r *http.Request) {
	if s.counts == nil {
		writeError(w, http.StatusNotFound, "builds are not counted")
		return
	}
	sums, err := s.counts.read(r.Context())
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, sums)
}
