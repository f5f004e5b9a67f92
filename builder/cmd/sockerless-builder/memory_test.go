package main

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"
)

func TestMemoryIsGivenBackOnceNoRequestIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		var given atomic.Int32
		handler := givingBack(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }), func() { given.Add(1) })
		for range 3 {
			go handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/session", nil))
		}
		synctest.Wait()
		over <- struct{}{}
		time.Sleep(2 * quiet)
		assert.Check(t, given.Load() == 0, "given back while requests are under way")
		over <- struct{}{}
		over <- struct{}{}
		synctest.Wait()
		time.Sleep(quiet - 1)
		assert.Check(t, given.Load() == 0, "given back too soon")
		time.Sleep(2 * quiet)
		if given.Load() != 1 {
			t.Errorf("given back %d times", given.Load())
		}
	})
}
