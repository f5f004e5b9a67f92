package containers

import (
	"errors"
	"testing"
)

func TestTheMountsOfAllViewsAreBounded(t *testing.T) {
	var v views
	first, second := v.enter("first"), v.enter("second")
	if err := errors.Join(v.count(first, mostViewMounts-10), v.count(second, 10)); err != nil {
		t.Fatal(err)
	}
	if err := v.count(second, 11); !errors.Is(err, errTooManyViewMounts) {
		t.Errorf("one more: %v", err)
	}
	if err := v.count(first, 0); err != nil {
		t.Fatal(err)
	}
	if err := v.count(second, 11); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}
