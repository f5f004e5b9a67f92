package forwarder

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// silentBackend accepts calls, and says nothing.
func silentBackend(t *testing.T) *held {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backend")
	listener, err := net.Listen("unix", path)
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close() })
	return &held{Wait: &wait{Backend: path}}
}

func TestAHelperThatHoldsManyClientsLeavesMoreToTheFrontend(t *testing.T) {
	request := silentBackend(t)
	frontend, lines := started(t, &forwarder{mostHeld: 1})
	for id := range 2 {
		fd, _ := ends(t)
		sendTo(t, frontend, fd, handedOn{ID: id + 1, Held: request})
		_ = unix.Close(fd)
	}
	// One of the two: they begin together.
	acknowledge(t, lines)
	if a := told(t, lines); a.Error != "the forwarder holds too many clients" || a.Sent {
		t.Fatalf("%+v", a)
	}
}

func TestAClientThatLeavesBeforeItsAnswerIsNotHeld(t *testing.T) {
	request := silentBackend(t)
	frontend, lines := started(t, &forwarder{mostHeld: 1})
	fd, client := ends(t)
	sendTo(t, frontend, fd, handedOn{ID: 1, Held: request})
	_ = unix.Close(fd)
	_, _ = client.Write([]byte("more"))
	_ = client.CloseWrite() // it may still read
	client.Close()
	if a := told(t, lines); a.ID != 1 || a.Error == "" || a.Sent {
		t.Fatalf("%+v", a)
	}
}

func TestHeldClientsAreBoundedByTheirMemoryToo(t *testing.T) {
	for descriptors, want := range map[uint64]int64{1024: 512, 20_000: 10_000, 1 << 20: 10_000, 1 << 63: 10_000} {
		if most := mostHeldOf(descriptors); most != want {
			t.Errorf("%d of %d descriptors", most, descriptors)
		}
	}
}

func TestManyWaitsAskForABackendNoMoreOftenTogether(t *testing.T) {
	for _, held := range []int64{1, 100, 10_000} {
		f := &forwarder{}
		f.holding.Store(held)
		if perSecond := held * int64(time.Second/time.Millisecond) / f.pause().Milliseconds(); perSecond > 10_000 {
			t.Errorf("%d waits ask %d times a second", held, perSecond)
		}
	}
}
