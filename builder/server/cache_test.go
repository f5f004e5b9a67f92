package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
	"github.com/sockerless/sockerless/builder/worker"
)

// cacheOf serves a cache of two states of a byte each with a key for each, last used an hour ago, which builds bound to one, and returns the keys that the server
// has at its end.
func cacheOf(t *testing.T) (s *Server, server *backendtest.Backend, ids []string, keysLeft func() []string) {
	t.Helper()
	server, client := backendtest.Start(t)
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "states.db"), 0o600, nil)
	assert.NilError(t, err)
	keys, err := bboltcachestorage.NewStore(filepath.Join(dir, "keys.db"))
	assert.NilError(t, err)
	for _, name := range []string{"first", "second"} {
		id, err := client.InstallImage(context.Background(), []byte(`{"name":"`+name+`"}`), nil, nil, nil, true)
		assert.NilError(t, err)
		record, err := json.Marshal(map[string]any{"id": id, "description": name, "size": 1, "lastUsedAt": time.Now().Add(-time.Hour)})
		assert.NilError(t, err)
		err = db.Update(func(tx *bolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("states"))
			if err != nil {
				return err
			}
			return bucket.Put([]byte(id), record)
		})
		assert.NilError(t, err)
		assert.NilError(t, keys.AddResult(name, solver.CacheResult{ID: "sockerless::" + id}))
		ids = append(ids, id)
	}
	assert.NilError(t, db.Close())
	assert.NilError(t, keys.Close())
	built, err := worker.New(context.Background(), client, dir, worker.Limits{CacheBytes: 1}, nil)
	assert.NilError(t, err)
	if s, err = New(context.Background(), built, dir, 0, true); err != nil {
		t.Fatal(err)
	}
	return s, server, ids, func() []string {
		s.Close()
		built.Close()
		keys, err := bboltcachestorage.NewStore(filepath.Join(dir, "keys.db"))
		assert.NilError(t, err)
		defer keys.Close()
		var left []string
		assert.NilError(t, keys.Walk(func(id string) error { left = append(left, id); return nil }))
		slices.Sort(left)
		return left
	}
}

func TestAPruneTakesTheKeysOfWhatItRemovesAlong(t *testing.T) {
	s, _, ids, keysLeft := cacheOf(t)
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, `/build/prune?all=1&filters={"id":["`+ids[0]+`"]}`, nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	if left := keysLeft(); !slices.Equal(left, []string{"second"}) {
		t.Errorf("left %q", left)
	}
}

// releasedCache reports releases of keys.
type releasedCache struct {
	solver.CacheManager
	released chan error
}

func (c releasedCache) ReleaseUnreferenced(ctx context.Context) error {
	err := c.CacheManager.ReleaseUnreferenced(ctx)
	c.released <- err
	return err
}

func TestTheLastBuildsPruneTakesTheKeysOfWhatItRemovesAlong(t *testing.T) {
	s, _, _, keysLeft := cacheOf(t)
	released := make(chan error, 1)
	s.cache = releasedCache{s.cache, released}
	_, end := s.beginBuild(t.Context())
	end()
	assert.NilError(t, <-released)
	assert.Check(t, is.Len(keysLeft(), 1))
}

func TestBuildsThatEndDuringAPruneHaveOneMoreTogether(t *testing.T) {
	s, server, _, keysLeft := cacheOf(t)
	removing, goOn := make(chan struct{}, 10), make(chan struct{})
	server.Before = func(procedure string) {
		if procedure == "RemoveImage" {
			removing <- struct{}{}
			<-goOn
		}
	}
	const builds = 100
	before := 0
	for at := range builds {
		_, end := s.beginBuild(t.Context())
		end()
		if at == 0 {
			<-removing
			before = runtime.NumGoroutine()
		}
	}
	more := runtime.NumGoroutine() - before
	assert.Check(t, more < builds/2, "%d goroutines wait", more)
	close(goOn)
	keysLeft()
}

// pruneStream receives BuildKit's responses to a prune.
type pruneStream struct{ grpc.ServerStream }

func (pruneStream) Context() context.Context           { return context.Background() }
func (pruneStream) Send(*controlapi.UsageRecord) error { return nil }

func TestAPruneOfBuildxLeavesTheKeysOfTheRest(t *testing.T) {
	s, _, ids, keysLeft := cacheOf(t)
	assert.NilError(t, s.controller.Prune(&controlapi.PruneRequest{All: true, Filter: []string{"id==" + ids[0]}}, pruneStream{}))
	if left := keysLeft(); !slices.Equal(left, []string{"second"}) {
		t.Errorf("left %q", left)
	}
}

func TestListsOfTheCacheTakeTurns(t *testing.T) {
	s, _ := running(t)
	assert.NilError(t, s.listing.Acquire(t.Context(), 1))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/build/usage", nil))
	assert.Check(t, answer.Code == http.StatusServiceUnavailable && answer.Body.Len() > 0, "answered while another list is made: %d %s", answer.Code, answer.Body)
	s.listing.Release(1)
	answer = httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/build/usage", nil))
	assert.Check(t, answer.Code == http.StatusOK, "not answered: %d", answer.Code)
}

func TestARestartIsNoUseOfTheCache(t *testing.T) {
	s, _, ids, keysLeft := cacheOf(t)
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/build/usage", nil))
	var records []cacheRecord
	assert.NilError(t, json.Unmarshal(answer.Body.Bytes(), &records))
	assert.Check(t, len(records) == len(ids), "%d records", len(records))
	for _, each := range records {
		if each.UsageCount != 0 || time.Since(*each.LastUsedAt) < time.Hour {
			t.Errorf("%s was used at the start: %+v", each.Description, each)
		}
	}
	keysLeft()
}
