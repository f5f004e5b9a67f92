package backend_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
)

func TestOnlySoManyImagesAreDescribedAtOnce(t *testing.T) {
	server, client := backendtest.Start(t)
	var atOnce, most atomic.Int32
	server.Before = func(string) {
		now := atOnce.Add(1)
		defer atOnce.Add(-1)
		for known := most.Load(); now > known && !most.CompareAndSwap(known, now); known = most.Load() {
		}
		time.Sleep(time.Millisecond)
	}
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() { _, _ = client.Image(t.Context(), "none") })
	}
	all.Wait()
	assert.Check(t, most.Load() <= 16, "%d at once", most.Load())
}

func TestThoseWhoWaitForAListOfVolumesShareTheNext(t *testing.T) {
	server, client := backendtest.Start(t)
	server.Volumes = map[string]bool{"old": false}
	begun, goOn := make(chan struct{}), make(chan struct{})
	var lists atomic.Int32
	server.Before = func(string) {
		if lists.Add(1) == 1 {
			close(begun)
			<-goOn
		}
	}
	var all sync.WaitGroup
	list := func(wanted int) {
		all.Go(func() {
			names, err := client.VolumesOf(t.Context(), "")
			assert.Check(t, err)
			assert.Check(t, len(names) >= wanted, "%q are listed, not %d", names, wanted)
		})
	}
	list(1)
	<-begun
	server.Volumes["new"] = false
	for range 100 {
		list(2)
	}
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	all.Wait()
	assert.Check(t, lists.Load() <= 3, "%d lists", lists.Load())
}
