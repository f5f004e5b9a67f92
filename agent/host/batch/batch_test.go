package batch

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// recorded is a queue that records its batches.
func recorded(gathering time.Duration, most int) (*Queue, chan []string) {
	batches := make(chan []string)
	return New(gathering, most, func(items []string) { batches <- items }), batches
}

func TestItemsAreWorkedOnTogether(t *testing.T) {
	q, batches := recorded(time.Hour, 3)
	for n := range 4 {
		q.Add(fmt.Sprint(n))
	}
	if batch := <-batches; !slices.Equal(batch, []string{"0", "1", "2"}) {
		t.Errorf("as many as can be: %q", batch)
	}
	q.Add("4")
	go q.Settle(time.Hour)
	if batch := <-batches; !slices.Equal(batch, []string{"3", "4"}) {
		t.Errorf("the others: %q", batch)
	}
}

func TestWhatIsGatheredIsWorkedOnByItself(t *testing.T) {
	q, batches := recorded(time.Millisecond, 3)
	for range 3 { // the goroutine ends in between, or does not
		q.Add("item")
		<-batches
	}
}

func TestAddWaitsWhereManyItemsWait(t *testing.T) {
	q, batches := recorded(0, 2)
	q.Add("worked on")
	for q.waitingNow() > 0 {
		time.Sleep(time.Millisecond)
	}
	added := make(chan struct{})
	go func() {
		for range 3 {
			q.Add("behind it")
		}
		close(added)
	}()
	for q.waitingNow() < 2 {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-added:
		t.Error("three items wait")
	case <-time.After(10 * time.Millisecond):
	}
	<-batches
	<-batches
	<-added
	<-batches
}

func (q *Queue) waitingNow() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func TestSettleWaitsForAllAndGathersNothing(t *testing.T) {
	var done []string
	q := New(time.Hour, 32, func(items []string) { done = append(done, items...) })
	q.Settle(time.Hour) // nothing is there
	for round := 1; round < 3; round++ {
		q.Add("a")
		q.Add("b")
		q.Settle(time.Hour)
		assert.Check(t, len(done) == 2*round, "worked on are %q", done)
	}
}

func TestSettleWaitsForAMomentOnly(t *testing.T) {
	release := make(chan struct{})
	q := New(0, 32, func([]string) { <-release })
	q.Add("a")
	q.Settle(time.Millisecond)
	close(release)
	q.Settle(time.Hour)
}
