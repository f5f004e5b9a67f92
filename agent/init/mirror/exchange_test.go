package mirror

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
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

func heap() int {
	runtime.GC()
	var all runtime.MemStats
	runtime.ReadMemStats(&all)
	return int(all.HeapAlloc)
}
