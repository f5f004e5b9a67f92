package disk

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// walks stand for measurements, which last until they are let go.
type walks struct {
	begun chan struct{}
	going atomic.Int32
	most  atomic.Int32 // at a time
	ended atomic.Int32
	letGo chan struct{}
}

func newWalks() *walks {
	return &walks{begun: make(chan struct{}, 1000), letGo: make(chan struct{})}
}

func (w *walks) measure(ctx context.Context) (uint64, error) {
	w.most.Store(max(w.most.Load(), w.going.Add(1)))
	w.begun <- struct{}{}
	defer w.ended.Add(1)
	defer w.going.Add(-1)
	select {
	case <-w.letGo:
		return 123, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func TestThoseWhoAskForATreeShareOneMeasurement(t *testing.T) {
	meter, tree := NewMeter(), newWalks()
	asked := make([]*measurement, 100)
	for n := range asked {
		asked[n], _ = meter.join("tree", tree.measure)
	}
	close(tree.letGo)
	for _, each := range asked {
		<-each.done
		if each.size != 123 || each.err != nil {
			t.Error(each.size, each.err)
		}
		meter.leave(each)
	}
	if len(tree.begun) != 1 {
		t.Errorf("%d measurements", len(tree.begun))
	}
	if size, err := meter.Measure(t.Context(), "tree", tree.measure); size != 123 || err != nil || len(tree.begun) != 2 {
		t.Errorf("who asks later is told of another: %d, %v", size, err)
	}
}

func TestAMeasurementEndsWhenItsLastCallerHasLeft(t *testing.T) {
	meter, tree := NewMeter(), newWalks()
	ctx, leave := context.WithCancel(t.Context())
	stays, _ := meter.join("tree", tree.measure)
	left := make(chan error)
	go func() {
		_, err := meter.Measure(ctx, "tree", tree.measure)
		left <- err
	}()
	<-tree.begun
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) || tree.ended.Load() != 0 {
		t.Errorf("one of two has left: %v, %d ended", err, tree.ended.Load())
	}
	meter.leave(stays)
	<-stays.done
	if len(tree.begun) != 0 || tree.ended.Load() != 1 {
		t.Errorf("%d others begun, %d ended", len(tree.begun), tree.ended.Load())
	}
	close(tree.letGo)
	if size, err := meter.Measure(t.Context(), "tree", tree.measure); size != 123 || err != nil {
		t.Errorf("who comes after them: %d, %v", size, err)
	}
}

func TestEightTreesAreMeasuredAtATime(t *testing.T) {
	meter, trees := NewMeter(), newWalks()
	asked := make([]*measurement, 20)
	for n := range asked {
		asked[n], _ = meter.join(fmt.Sprint(n), trees.measure)
	}
	for range 8 {
		<-trees.begun
	}
	for range 1000 {
		runtime.Gosched() // others would begin
	}
	meter.leave(asked[19]) // perhaps without a place
	<-asked[19].done
	close(trees.letGo)
	for _, each := range asked {
		<-each.done
	}
	if most := trees.most.Load(); most != 8 {
		t.Errorf("%d at a time", most)
	}
	if len(meter.going) != 0 || len(meter.places) != 0 {
		t.Errorf("%d go on, %d places taken", len(meter.going), len(meter.places))
	}
}

func TestATreeThatDoesNotAnswerIsMeasuredOnceForAllWhoLeave(t *testing.T) {
	meter, begun, letGo := NewMeter(), make(chan struct{}, 100), make(chan struct{})
	stuck := func(context.Context) (uint64, error) {
		begun <- struct{}{}
		<-letGo
		return 1, nil
	}
	first, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := meter.Measure(first, "away", stuck)
		left <- err
	}()
	<-begun
	leave()
	assert.Check(t, is.ErrorIs(<-left, context.Canceled))
	for range 2 * mostWalks {
		ctx, leave := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := meter.Measure(ctx, "away", stuck)
		assert.Check(t, is.ErrorIs(err, context.DeadlineExceeded))
		leave()
	}
	if more := len(begun); more != 0 || len(meter.places) != 1 {
		t.Errorf("%d more measurements, %d places taken", more, len(meter.places))
	}
	answered := make(chan uint64)
	go func() {
		size, _ := meter.Measure(t.Context(), "away", func(context.Context) (uint64, error) { return 2, nil })
		answered <- size
	}()
	close(letGo)
	if size := <-answered; size != 2 {
		t.Errorf("who comes after them is told %d", size)
	}
}
