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
	first, second := &shown{}, &shown{}
	assert.NilError(t, errors.Join(v.reserve(first, mostViewMounts-10), v.reserve(second, 10)))
	assert.Check(t, is.ErrorIs(v.reserve(second, 1), errTooManyViewMounts), "one more")
	for range 2 {
		assert.NilError(t, v.close(first))
	}
	assert.Check(t, is.ErrorIs(v.reserve(first, 1), errViewClosed), "a late look")
	assert.Check(t, v.reserve(second, mostViewMounts-10), "once there is room")
	assert.Check(t, is.ErrorIs(v.reserve(second, 1), errTooManyViewMounts), "room that was given back twice")
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
