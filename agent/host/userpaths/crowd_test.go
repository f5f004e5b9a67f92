package userpaths

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// manyMounts is a listing of thousands of mounts that counts its calls.
func manyMounts(calls *atomic.Int32) func() (map[string]bool, error) {
	var text strings.Builder
	text.WriteString("20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:4 / /proc rw - proc proc rw\n")
	for n := range 4_000 {
		fmt.Fprintf(&text, "%d 20 0:%d / /run/sockerless/%d rw,relatime shared:%d - tmpfs tmpfs rw,size=64k\n", n+30, n+30, n, n+30)
	}
	return func() (map[string]bool, error) {
		calls.Add(1)
		points := map[string]bool{}
		_, err := mountinfo.GetMountsFromReader(strings.NewReader(text.String()), func(mount *mountinfo.Info) (skip, stop bool) {
			points[mount.Mountpoint] = true
			return true, false
		})
		return points, err
	}
}

// stick begins a look that is stuck at a path, and returns once it is.
func stick(ctx context.Context, t *testing.T, l *Looks, path string, until chan struct{}) (ended chan error) {
	t.Helper()
	stuck := make(chan struct{})
	ended = make(chan error, 1)
	go func() { ended <- l.Do(ctx, path, func() error { close(stuck); <-until; return nil }) }()
	<-stuck
	return ended
}

func TestACrowdOfLooksHoldsUpNoOther(t *testing.T) {
	l := New()
	var calls atomic.Int32
	l.mounts.list = manyMounts(&calls)
	hung := make(chan struct{})
	defer close(hung)
	began := time.Now()
	stick(t.Context(), t, l, "/proc/self", hung)
	crowd, leave := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	defer looking.Wait()
	defer leave()
	for range 300 {
		looking.Add(1)
		go func() {
			defer looking.Done()
			for crowd.Err() == nil {
				_ = l.Do(crowd, "/etc/hosts", func() error { _, err := os.Stat("/etc/hosts"); return err })
			}
		}()
	}
	time.Sleep(2 * slowAfter) // until the stuck one is counted
	for range 3 {
		asked := time.Now()
		assert.NilError(t, l.Do(t.Context(), "/etc/passwd", func() error { return nil }))
		if took := time.Since(asked); took > 3*time.Second {
			t.Errorf("another's look took %v", took)
		}
	}
	if most := 2 + int32(time.Since(began)/mountPointsAge); calls.Load() > most {
		t.Errorf("the mounts were listed %d times, more than %d", calls.Load(), most)
	}
}

func TestALookThatIsStuckLeavesItsRoomWhenItsClientHasLeft(t *testing.T) {
	l := New()
	hung := make(chan struct{})
	defer close(hung)
	for range mostUncounted {
		ctx, leave := context.WithCancel(t.Context())
		ended := stick(ctx, t, l, "/proc/self", hung)
		leave()
		assert.ErrorIs(t, <-ended, context.Canceled)
	}
	assert.Check(t, l.Do(t.Context(), "/etc", func() error { return nil }))
}

func TestLooksAtAFullFileSystemHaveTheirTurns(t *testing.T) {
	l := New()
	hung := make(chan struct{})
	var stuck []chan error
	for range mostOfOne {
		stuck = append(stuck, stick(t.Context(), t, l, "/proc/self", hung))
	}
	counted := func() (count int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.slow["/proc"]
	}
	for counted() < mostOfOne {
		time.Sleep(time.Millisecond)
	}
	waits := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting["/proc"])
	}
	impatient, leave := context.WithCancel(t.Context())
	ended := make(chan error)
	for _, ctx := range []context.Context{impatient, t.Context(), t.Context()} {
		before := waits()
		go func() { ended <- l.Do(ctx, "/proc/self", func() error { return nil }) }()
		for waits() == before {
			time.Sleep(time.Millisecond)
		}
	}
	leave()
	assert.Check(t, is.ErrorIs(<-ended, context.Canceled))
	for waits() > 2 {
		time.Sleep(time.Millisecond)
	}
	close(hung)
	for range 2 {
		assert.Check(t, <-ended)
	}
	for _, each := range stuck {
		assert.Check(t, <-each)
	}
	for counted() > 0 {
		time.Sleep(time.Millisecond)
	}
	if len(l.waiting) > 0 || len(l.room) > 0 {
		t.Error(l.waiting, len(l.room))
	}
}
