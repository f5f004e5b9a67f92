package names

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// dense answers with one record whose 65 KB are pointers to a long name: each would be
// decoded to a kilobyte.
func dense(query *dns.Msg) []byte {
	answer := replyTo(query)
	answer.Answer = []dns.RR{&dns.NS{
		Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeNS, Class: dns.ClassINET},
		Ns:  string(bytes.Repeat([]byte(`\255`), 61)) + ".",
	}}
	packed, _ := answer.Pack()
	pointer := binary.BigEndian.AppendUint16(nil, 0xc000|uint16(len(packed)-63))
	packed[7] = 2
	packed = append(packed, pointer...)
	packed = binary.BigEndian.AppendUint16(packed, dns.TypeHIP)
	packed = append(packed, 0, dns.ClassINET, 0, 0, 0, 1)
	data := append([]byte{1, 2, 0, 1, 7, 7}, bytes.Repeat(pointer, 32_000)...)
	packed = binary.BigEndian.AppendUint16(packed, uint16(len(data)))
	return append(packed, data...)
}

// denseUpstream serves dense answers by both protocols, and is the only server of a
// resolver that is asked at the addresses returned.
func denseUpstream(t *testing.T) (udp string, tcp net.Listener) {
	t.Helper()
	packets, listener := listenByBoth(t)
	for _, server := range []*dns.Server{{PacketConn: packets}, {Listener: listener}} {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) { _, _ = w.Write(dense(query)) })
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	table := NewTable(&agentv1.NamesRequest{Forward: true})
	table.upstreams = []string{packets.LocalAddr().String()}
	own, tcp := listenByBoth(t)
	resolver := Serve(own, tcp, table, Options{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(resolver.Close)
	return own.LocalAddr().String(), tcp
}

func TestAnAnswerIsHandedOnAsItCame(t *testing.T) {
	_, tcp := denseUpstream(t)
	query := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	conn := &dns.Conn{Conn: connect(t, tcp, framed(t, query))}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	answer, err := conn.ReadMsgHeader(nil)
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 2<<20 {
		t.Errorf("%d bytes were taken", taken)
	}
	if err != nil || !bytes.Equal(answer, dense(query)) {
		t.Errorf("%d bytes came: %v", len(answer), err)
	}
}

func TestAnAnswerThatIsLongerThanTheAskerTakesIsSaidToBeCut(t *testing.T) {
	udp, _ := denseUpstream(t)
	client := dns.Client{Timeout: 10 * time.Second}
	response, _, err := client.Exchange(new(dns.Msg).SetQuestion("example.org.", dns.TypeA).SetEdns0(4096, false), udp)
	assert.NilError(t, err)
	assert.Check(t, response.Truncated && len(response.Answer) == 0, response)
}
