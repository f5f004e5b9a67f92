package names

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
	"golang.org/x/sync/semaphore"
)

// ttl of answers from the table, in seconds, as in dockerd's resolver.
const ttl = 600

// Resolver answers the questions of one container.
type Resolver struct {
	table   atomic.Pointer[Table]
	asked   func([]netip.Addr)
	forward forwarder
	servers []*dns.Server
	serving sync.WaitGroup
	logger  *slog.Logger
}

// Options configure a Resolver.
type Options struct {
	Upstreams Upstreams
	// Asked is called with a table name's addresses before they are sent; may be
	// nil.
	Asked  func([]netip.Addr)
	Logger *slog.Logger
}

// Serve starts to answer on both sockets and takes ownership of them.
func Serve(packets net.PacketConn, listener net.Listener, table *Table, options Options) *Resolver {
	r := &Resolver{asked: options.Asked, forward: newForwarder(options.Upstreams), logger: options.Logger}
	if r.asked == nil {
		r.asked = func([]netip.Addr) {}
	}
	r.table.Store(table)
	handler := dns.HandlerFunc(r.answer)
	placed := placedListener{listener, r.forward.ctx, semaphore.NewWeighted(mostConnections)}
	r.servers = []*dns.Server{
		{PacketConn: packets, Handler: handler},
		{Listener: placed, Handler: handler, DecorateReader: func(usual dns.Reader) dns.Reader { return boundedReader{usual} }},
	}
	for _, server := range r.servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		r.serving.Add(1)
		go func() {
			defer r.serving.Done()
			defer close(ended)
			if err := server.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
				r.logger.Error("the resolver ended", "error", err)
			}
		}()
		select { // a server that has not started cannot be shut down
		case <-started:
		case <-ended:
		}
	}
	return r
}

// SetTable replaces the table.
func (r *Resolver) SetTable(table *Table) { r.table.Store(table) }

// Close stops the resolver and cancels pending questions.
func (r *Resolver) Close() {
	r.forward.cancel()
	for _, server := range r.servers {
		_ = server.Shutdown() // it may have ended already
	}
	r.serving.Wait()
}

func (r *Resolver) answer(w dns.ResponseWriter, query *dns.Msg) {
	answer, err := r.answerTo(query, w.LocalAddr().Network())
	if err == nil {
		_, err = w.Write(answer)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		r.logger.Debug("an answer is not sent", "error", err)
	}
}

func (r *Resolver) answerTo(query *dns.Msg, network string) ([]byte, error) {
	table := r.table.Load()
	response := table.answer(query)
	if response == nil {
		given, err := r.forward.exchange(table, query, network)
		if err == nil && (network != "udp" || len(given) <= acceptedSize(query)) {
			return given, nil
		}
		response = replyTo(query)
		response.Truncated = err == nil
		if err != nil {
			response.Rcode = dns.RcodeServerFailure
			if !errors.Is(err, errNotForwarded) && !errors.Is(err, context.Canceled) {
				r.logger.Debug("a question has no answer", "error", err)
			}
		}
	} else if addresses := addressesIn(response); len(addresses) > 0 {
		r.asked(addresses)
	}
	if network == "udp" {
		response.Truncate(acceptedSize(query))
	}
	return response.Pack()
}

// answer answers from the table; nil: to be forwarded.
func (t *Table) answer(query *dns.Msg) *dns.Msg {
	if query.Opcode != dns.OpcodeQuery || len(query.Question) != 1 || query.Question[0].Qclass != dns.ClassINET {
		return nil
	}
	question := query.Question[0]
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
	if question.Qtype == dns.TypePTR {
		found := t.Names(question.Name)
		if len(found) == 0 {
			return nil
		}
		response := replyTo(query)
		for _, name := range found {
			response.Answer = append(response.Answer, &dns.PTR{Hdr: header, Ptr: name})
		}
		return response
	}
	addresses, known := t.Addresses(question.Name)
	if !known {
		return nil
	}
	// A name of ours without a record of this type gets an empty answer: no other
	// server may answer for it.
	response := replyTo(query)
	for _, address := range addresses {
		if record := recordOf(header, address); record != nil {
			response.Answer = append(response.Answer, record)
		}
	}
	rand.Shuffle(len(response.Answer), func(i, j int) {
		response.Answer[i], response.Answer[j] = response.Answer[j], response.Answer[i]
	})
	return response
}

// addressesIn returns the IPv4 addresses of a response.
func addressesIn(response *dns.Msg) []netip.Addr {
	var addresses []netip.Addr
	for _, record := range response.Answer {
		if a, ok := record.(*dns.A); ok {
			if address, ok := netip.AddrFromSlice(a.A.To4()); ok {
				addresses = append(addresses, address)
			}
		}
	}
	return addresses
}

func recordOf(header dns.RR_Header, address netip.Addr) dns.RR {
	switch {
	case header.Rrtype == dns.TypeA && address.Is4():
		return &dns.A{Hdr: header, A: address.AsSlice()}
	case header.Rrtype == dns.TypeAAAA && address.Is6():
		return &dns.AAAA{Hdr: header, AAAA: address.AsSlice()}
	}
	return nil
}

func replyTo(query *dns.Msg) *dns.Msg {
	response := new(dns.Msg).SetReply(query)
	response.RecursionAvailable = true
	return response
}

// acceptedSize is the maximum size of a UDP response.
func acceptedSize(query *dns.Msg) int {
	if options := query.IsEdns0(); options != nil && options.UDPSize() > dns.MinMsgSize {
		return int(options.UDPSize())
	}
	return dns.MinMsgSize
}
