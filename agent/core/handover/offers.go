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

// Offers receives clients' connections for open streams: each has a token, valid
// once. It listens from the first offer on.
type Offers struct {
	path   string
	logger *slog.Logger

	mu       sync.Mutex
	listener *net.UnixListener
	open     map[string]*Offer
	carried  map[*progress]struct{} // by clients that receive output
	closed   bool
	changed  change.Signal // signals changes of open
	room     int           // of kernelRoomOfAll that clients have taken

	leaving     chan struct{}
	leavingOnce sync.Once
}

// NewOffers prepares offers at a unix socket, which does not exist yet.
func NewOffers(path string, logger *slog.Logger) *Offers {
	return &Offers{
		path: path, logger: logger, open: make(map[string]*Offer), carried: make(map[*progress]struct{}), leaving: make(chan struct{}),
	}
}

// Offer is the offer of one stream.
type Offer struct {
	Socket, Token string
	// Taken yields the client's connection once it has arrived.
	Taken  chan Client
	offers *Offers
}

// Make makes an offer, valid until Withdraw.
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

// Withdraw ends an offer. It returns a connection that has arrived meanwhile, if
// any.
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

// Leave announces that this process ends soon: output for slow clients is put
// into the kernel's buffer, from which they may read it later.
func (o *Offers) Leave() { o.leavingOnce.Do(func() { close(o.leaving) }) }

// takeRoom takes a client's part of kernelRoomOfAll, if there is one left.
func (o *Offers) takeRoom() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.room+kernelRoom > kernelRoomOfAll {
		return false
	}
	o.room += kernelRoom
	return true
}

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
	listener.SetUnlinkOnClose(false) // the path may belong to a successor by then
	// A peer that connects before this is checked by its credentials.
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

// take receives one connection, and passes it to its stream.
func (o *Offers) take(conn *net.UnixConn) error {
	if err := demandOwnUser(conn); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	begin, control := make([]byte, headLimit), make([]byte, ControlSpace)
	n, controlled, flags, _, err := conn.ReadMsgUnix(begin, control) // has the close-on-exec flag
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

// give reads what follows a connection's descriptor; its beginning was already
// read.
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
