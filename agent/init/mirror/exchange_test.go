package mirror

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestDatagramsThatWaitForAPartnerAreBoundedByTheirBytes(t *testing.T) {
	link := newLink(Partner{}, nil, nil, "partner:1", time.Minute, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	defer link.Close()
	before := heap()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all []net.Conn
	for range 10 {
		exchange := link.Exchange(ctx, netip.MustParseAddrPort("10.0.0.1:53"))
		all = append(all, exchange)
		for range 2 * waitingDatagrams {
			if n, err := exchange.Write(make([]byte, 16<<10)); n != 16<<10 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	if grown := heap() - before; grown > 2*waitingBytes {
		t.Errorf("%d bytes wait", grown)
	}
	for _, exchange := range all {
		exchange.Close()
		_, _ = exchange.Write(make([]byte, 1)) // nothing is kept of it
	}
	patient, over := context.WithTimeout(context.Background(), 20*time.Second)
	defer over()
	if err := link.waiting.Acquire(patient, waitingBytes); err != nil {
		t.Error("not all room is given back")
	}
	runtime.KeepAlive(all)
}

func TestOfTooManyExchangesTheOneEndsThatHasBeenSilentForLongest(t *testing.T) {
	link := newLink(Partner{}, nil, nil, "partner:1", time.Minute, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	defer link.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	to := netip.MustParseAddrPort("10.0.0.1:53")
	used, silent := link.Exchange(ctx, to), link.Exchange(ctx, to)
	for range mostExchanges - 2 {
		link.Exchange(ctx, to)
	}
	_, _ = used.Write(make([]byte, 1))
	last := link.Exchange(ctx, to)
	_ = silent.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := silent.Read(make([]byte, 1))
	assert.Check(t, is.ErrorIs(err, io.EOF), "the silent one")
	for name, other := range map[string]net.Conn{"one that was used": used, "the last": last} {
		_ = other.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := other.Read(make([]byte, 1))
		assert.Check(t, is.ErrorIs(err, os.ErrDeadlineExceeded), name)
	}
}

func heap() int {
	runtime.GC()
	var all runtime.MemStats
	runtime.ReadMemStats(&all)
	return int(all.HeapAlloc)
}
