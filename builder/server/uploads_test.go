package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"
)

func TestAnUploadThatNoBuildTakesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var uploads uploads
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := uploads.give(ctx, "one", strings.NewReader("content"))
		if refusal := new(refused); !errors.As(err, &refusal) || refusal.status != http.StatusNotFound {
			t.Errorf("answered %v", err)
		}
		_, isLeft := uploads.waiting.Value("one")
		assert.Check(t, !isLeft)
	})
}

func TestAnUploadThatWasTakenMayLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var uploads uploads
		given := make(chan error, 1)
		go func() { given <- uploads.give(t.Context(), "one", strings.NewReader("content")) }()
		taken, err := uploads.take(t.Context(), "one")
		assert.NilError(t, err)
		time.Sleep(time.Hour)
		if content, err := io.ReadAll(taken.content); err != nil || string(content) != "content" || len(given) != 0 {
			t.Errorf("%q, %v, given %d", content, err, len(given))
		}
		taken.done()
		assert.Check(t, <-given)
	})
}

// giving offers an empty context, and reports when it was taken and read.
func giving(t *testing.T, to *uploads) chan error {
	given := make(chan error, 1)
	go func() { given <- to.give(t.Context(), "one", strings.NewReader("")) }()
	synctest.Wait()
	return given
}

func TestWhoLeavesSplitsNoOthersOfItsID(t *testing.T) {
	for _, test := range []struct {
		name string
		// Leaves while another upload waits, which is then served.
		leave func(*testing.T, *uploads) chan error
	}{
		{"before it has met anybody", func(t *testing.T, of *uploads) chan error {
			ctx, cancel := context.WithCancel(t.Context())
			go of.give(ctx, "one", strings.NewReader(""))
			synctest.Wait()
			waiting := giving(t, of)
			cancel()
			return waiting
		}},
		{"after its context was read", func(t *testing.T, of *uploads) chan error {
			read := giving(t, of)
			taken, err := of.take(t.Context(), "one")
			assert.NilError(t, err)
			waiting := giving(t, of)
			taken.done()
			assert.Check(t, <-read)
			return waiting
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var uploads uploads
				waiting := test.leave(t, &uploads)
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				taken, err := uploads.take(ctx, "one")
				assert.NilError(t, err)
				taken.done()
				assert.Check(t, <-waiting)
			})
		})
	}
}
