package containers

import (
	"context"
	"errors"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestTheMountsOfAllViewsAreBounded(t *testing.T) {
	v := newViews()
	var large []*shown
	for mostViewMounts-v.mounts > 2*leastViewMounts {
		next := &shown{}
		half := (mostViewMounts - v.mounts) / 2
		assert.NilError(t, v.reserve(next, half))
		assert.Check(t, is.ErrorIs(v.reserve(next, 1), errTooManyViewMounts), "one more than a half")
		large = append(large, next)
	}
	small := &shown{}
	assert.Check(t, is.ErrorIs(v.reserve(small, leastViewMounts+1), errTooManyViewMounts))
	assert.Check(t, v.reserve(small, leastViewMounts), "a small one beside large ones that are not read")
	for range 2 {
		for _, each := range large {
			assert.NilError(t, v.close(each))
		}
	}
	assert.Check(t, is.ErrorIs(v.reserve(large[0], 1), errViewClosed), "a late look")
	assert.Check(t, v.reserve(small, mostViewMounts/2-leastViewMounts), "once there is room")
	assert.Check(t, is.ErrorIs(v.reserve(small, 1), errTooManyViewMounts), "room that was given back twice")
}

func TestAViewKeepsTheMountsThatAreReservedForItWhenOthersCome(t *testing.T) {
	v := newViews()
	first, second := &shown{}, &shown{}
	const half = mostViewMounts / 2
	assert.NilError(t, errors.Join(v.reserve(first, half), v.reserve(second, half/2)))
	assert.Check(t, v.count(first, half))
	assert.Check(t, is.ErrorIs(v.count(first, half+1), errTooManyViewMounts))
}

func TestAViewsMountsAreCountedOnceItIsMade(t *testing.T) {
	c := newContainers(t)
	namespace, err := c.namespaceOf(t.Context(), t.TempDir())
	assert.NilError(t, err)
	made := &shown{Namespace: namespace}
	assert.NilError(t, errors.Join(c.views.reserve(made, 10), c.views.settle(made)))
	if made.mounts != 1 || c.views.mounts != 1 {
		t.Errorf("%d of %d mounts", made.mounts, c.views.mounts)
	}
	if err := c.views.close(made); err != nil || c.views.mounts != 0 {
		t.Errorf("%d mounts are left, %v", c.views.mounts, err)
	}
}

func TestAViewThatWaitsForItsTurnEndsWithItsClient(t *testing.T) {
	c := newContainers(t)
	for range mostNewViews {
		c.views.making <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.namespaceOf(ctx, t.TempDir())
	assert.Check(t, is.ErrorIs(err, context.DeadlineExceeded))
	<-c.views.making
	namespace, err := c.namespaceOf(t.Context(), t.TempDir())
	assert.NilError(t, err)
	assert.Check(t, namespace.Close())
	if taken := len(c.views.making); taken != mostNewViews-1 {
		t.Errorf("%d turns are taken", taken)
	}
}
