package handover

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/change"
)

// Offers takes connections of clients for streams that are open: each has a token
// that is good for one. It listens from the first offer on.
type Offers struct {
	path   string
	logger *slog.Logger

	mu       sync.Mutex
	listener *net.UnixListener
	open     map[string]*Offer
	carried  map[*progress]struct{} // of clients to whom output is written
	closed   bool
	changed  change.Signal // of open

	leaving     chan struct{}
	leavingOnce sync.Once
}

// NewOffers makes offers of connections at a unix socket, which nobody has made yet.
func NewOffers(path string, logger *slog.Logger) *Offers {
	return &Offers{
		path: path, logger: logger, open: make(map[string]*Offer), carried: make(map[*progress]struct{}), leaving: make(chan struct{}),
	}
}

// Offer is one stream's.
type Offer struct {
	Socket, Token string
	// Taken has the client's connection once it is there.
	Taken  chan Client
	offers *Offers
}

// Make makes an offer, which Withdraw ends.
func (o *Offers) Make() (*Offer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.listen(); err != nil {
		o.logger.Warn("clients' connections cannot be taken", "error", err)
		return nil, err
	}
	offer := &Offer{Socket: o.path, Token: rand.Text(), Taken: make(chan Client, 1), offers: o}
	o.open[offer.Token] = offer
	return offer, nil
}

// Withdraw ends an offer. It answers the connection that came meanwhile, if any.
func (f *Offer) Withdraw() (Client, bool) {
	f.offers.mu.Lock()
	defer f.offers.mu.Unlock()
	f.offers.forget(f.Token)
	select {
	case client := <-f.Taken:
		return client, true
	default:
		return Client{}, false
	}
}

// Leave says that this process leaves soon: what waits for clients that read slowly
// is given to the kernel, from which they may read it later.
func (o *Offers) Leave() { o.leavingOnce.Do(func() { close(o.leaving) }) }

// Close ends all offers. The socket's file stays, as it may be a successor's.
func (o *Offers) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.listener != nil {
		o.listener.Close()
	}
}

// listen is called with mu held.
func (o *Offers) listen() error {
	if o.closed {
		return net.ErrClosed
	}
	if o.listener != nil {
		return nil
	}
	if err := os.Remove(o.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.path, Net: "unix"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false) // the path may be a successor's by then
	// A peer that came before is told apart by its credentials.
	if err := os.Chmod(o.path, 0o600); err != nil {
		listener.Close()
		return err
	}
	o.listener = listener
	go o.serve(listener)
	return nil
}

func (o *Offers) serve(listener *net.UnixListener) {
	for {
		conn, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			o.logger.Warn("accept handed connections", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go func() {
			defer conn.Close()
			if err := o.take(conn); err != nil {
				o.logger.Warn("a connection was not taken", "error", err)
			}
		}()
	}
}

// take receives one connection, and gives it to the stream that it is for.
func (o *Offers) take(conn *net.UnixConn) error {
	if err := demandOwnUser(conn); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	begin, control := make([]byte, headLimit), make([]byte, ControlSpace)
	n, controlled, flags, _, err := conn.ReadMsgUnix(begin, control) // closed at an execution
	if err != nil {
		return err
	}
	fd, err := OneDescriptor(control[:controlled], flags)
	if err != nil {
		return err
	}
	client, err := ConnectionOf(fd)
	if err != nil {
		return err
	}
	if err := o.give(client, begin[:n], conn); err != nil {
		client.Close()
		return err
	}
	return nil
}

// give reads what comes with a connection: the beginning is read already.
func (o *Offers) give(client *net.UnixConn, begin []byte, rest io.Reader) error {
	reader := bufio.NewReader(io.MultiReader(bytes.NewReader(begin), rest))
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("the line that comes with a connection: %w", err)
	}
	var h head
	if err := json.Unmarshal(line, &h); err != nil {
		return err
	}
	if h.Early < 0 || h.Early > earlyLimit {
		return fmt.Errorf("%d bytes were read before", h.Early)
	}
	early := make([]byte, h.Early)
	if _, err := io.ReadFull(reader, early); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	offer := o.open[h.Token]
	if offer == nil {
		return errors.New("no stream waits for it")
	}
	o.forget(h.Token)
	offer.Taken <- Client{Conn: client, Early: early, Leaving: o.leaving, offers: o}
	return nil
}

// forget is called with mu held.
func (o *Offers) forget(token string) {
	delete(o.open, token)
	o.changed.Notify()
}
