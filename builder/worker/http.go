package worker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/upload"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/http"
	"github.com/moby/buildkit/util/tracing"
)

// httpSource is BuildKit's own, whose files become states and are limited like a build context, even those that a
// client sends through its session.
type httpSource struct {
	*http.Source
	clients slots
}

// maxFetched bounds the files that a client's builds download at once: the solver begins with all that a build names, and
// a silent server has a connection for minutes.
const maxFetched = 64

func newHTTPSource(w *Worker) (*httpSource, error) {
	real, err := http.NewSource(http.Opt{
		CacheAccessor: &manager{Worker: w, description: "downloaded"},
		Transport:     w.web,
	})
	return &httpSource{real, slots{size: maxFetched}}, err
}

// sessionHost is the host of files from a client's session. BuildKit bypasses the transport for it, unlimited, unless
// the URL has the port.
const (
	sessionHost   = "buildkit-session"
	boundedAtHost = sessionHost + ":80"
)

func (s *httpSource) Resolve(ctx context.Context, id source.Identifier, sessions *session.Manager, v solver.Vertex) (source.SourceInstance, error) {
	file, ok := id.(*http.HTTPIdentifier)
	if !ok {
		return s.Source.Resolve(ctx, id, sessions, v)
	}
	file.URL = boundedURL(file.URL)
	made, err := s.Source.Resolve(ctx, file, sessions, v)
	return &httpInstance{made, s, sessions}, err
}

// ResolveMetadata downloads a file and returns its metadata.
func (s *httpSource) ResolveMetadata(ctx context.Context, id *http.HTTPIdentifier, sessions *session.Manager, job solver.JobContext, wanted http.MetadataOpts) (*http.Metadata, error) {
	id.URL = boundedURL(id.URL)
	var group session.Group
	if job != nil {
		group = job.Session()
	}
	ctx, leave, err := s.begin(ctx, sessions, group)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.Source.ResolveMetadata(ctx, id, sessions, job, wanted)
}

// begin waits until a client's builds may download one more file, and passes their sessions to the transport.
func (s *httpSource) begin(ctx context.Context, sessions *session.Manager, group session.Group) (context.Context, func(), error) {
	leave, err := s.clients.takeOf(ctx, group)
	return context.WithValue(ForBuilds(ctx, group), sendersOfBuild{}, &senders{sessions, group}), leave, err
}

// boundedURL routes a session's files through the transport, whatever the scheme or user of the URL.
func boundedURL(text string) string {
	address, err := url.Parse(text)
	if err != nil || !isOfSession(address) {
		return text
	}
	address.Host, address.User = boundedAtHost, nil
	return address.String()
}

// isOfSession also accepts an empty port, which net/http omits.
func isOfSession(address *url.URL) bool {
	host := strings.TrimSuffix(address.Host, ":")
	return host == sessionHost || host == boundedAtHost
}

// httpInstance downloads a file of a build.
type httpInstance struct {
	source.SourceInstance
	source   *httpSource
	sessions *session.Manager
}

func (i *httpInstance) CacheKey(ctx context.Context, job solver.JobContext, index int) (key, pin string, options solver.CacheOpts, isDone bool, err error) {
	ctx, leave, err := i.source.begin(ctx, i.sessions, job.Session())
	if err != nil {
		return "", "", nil, false, err
	}
	defer leave()
	return i.SourceInstance.CacheKey(ctx, job, index)
}

func (i *httpInstance) Snapshot(ctx context.Context, job solver.JobContext) (cache.ImmutableRef, error) {
	ctx, leave, err := i.source.begin(ctx, i.sessions, job.Session())
	if err != nil {
		return nil, err
	}
	defer leave()
	return i.SourceInstance.Snapshot(ctx, job)
}

type sendersOfBuild struct{}

// senders are the sessions of a build.
type senders struct {
	sessions *session.Manager
	group    session.Group
}

// sessionTransport requests a session's files from the sessions of the request's build. Web servers cannot redirect
// there: BuildKit would follow past this transport.
type sessionTransport struct{ nethttp.RoundTripper }

func (t *sessionTransport) RoundTrip(request *nethttp.Request) (*nethttp.Response, error) {
	of, ok := request.Context().Value(sendersOfBuild{}).(*senders)
	if !ok || request.URL.Host != boundedAtHost {
		return t.ask(request)
	}
	address := *request.URL
	address.Host = sessionHost
	content, writer := io.Pipe()
	err := of.sessions.Any(request.Context(), of.group, func(_ context.Context, _ string, caller session.Caller) error {
		sent, err := upload.New(request.Context(), caller, &address)
		if err == nil {
			go func() {
				_, err := sent.WriteTo(writer)
				writer.CloseWithError(err)
			}()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &nethttp.Response{
		Status: "200 OK", StatusCode: nethttp.StatusOK, Header: nethttp.Header{}, Body: content, ContentLength: -1, Request: request,
	}, nil
}

func (t *sessionTransport) ask(request *nethttp.Request) (*nethttp.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if to, err := response.Location(); err == nil && isOfSession(to) {
		response.Body.Close()
		return nil, errors.New("the web server redirects to a client's session, which no build may follow")
	}
	return response, nil
}

// proxyChoice returns the proxy for a request; nil: none.
type proxyChoice = func(*nethttp.Request) (*url.URL, error)

// machineProxy is the environment's proxy before that is set to git's: net/http reads the environment once, here, so
// that registries also use the machine's own.
var machineProxy = func() proxyChoice {
	_, _ = nethttp.ProxyFromEnvironment(&nethttp.Request{URL: &url.URL{}})
	return nethttp.ProxyFromEnvironment
}()

// downloading connects to any host that a build names except metadata services: neither through a name or a redirect
// nor by their address through a proxy. A proxy that resolves names is trusted.
func downloading(proxy proxyChoice, limit int64) nethttp.RoundTripper {
	return &boundedTransport{&sessionTransport{tracing.NewTransport(webTransport(proxy))}, limit}
}

// maxToken bounds what a registry answers where no document or layer is asked for, as with tokens.
const maxToken = 1 << 20

// askingRegistries is the same for a registry, in HTTP/1.1 as BuildKit does. An insecure one may do without TLS.
func askingRegistries(proxy proxyChoice, isInsecure bool) nethttp.RoundTripper {
	transport := webTransport(proxy)
	transport.ForceAttemptHTTP2 = false
	transport.TLSNextProto = map[string]func(string, *tls.Conn) nethttp.RoundTripper{}
	if !isInsecure {
		return &tokenTransport{tracing.NewTransport(transport)}
	}
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return &tokenTransport{tracing.NewTransport(docker.NewHTTPFallback(transport))}
}

// tokenTransport bounds answers to requests that accept no type: containerd names the types of what a repository has,
// and decodes all others whole.
type tokenTransport struct{ nethttp.RoundTripper }

func (t *tokenTransport) RoundTrip(request *nethttp.Request) (*nethttp.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	if err == nil && request.Header.Get("Accept") == "" {
		response.Body = &boundedBody{response.Body, maxToken, maxToken, "the limit for tokens"}
	}
	return response, err
}

func webTransport(proxy proxyChoice) *nethttp.Transport {
	transport := nethttp.DefaultTransport.(*nethttp.Transport).Clone()
	transport.DialContext = webDialer.DialContext
	// An idle connection takes the place of another, and each repository has a transport of its own.
	transport.IdleConnTimeout = 5 * time.Second
	transport.Proxy = nil
	if proxy != nil {
		transport.Proxy = func(request *nethttp.Request) (*url.URL, error) {
			through, err := proxy(request)
			if err == nil && through != nil {
				err = refuseMetadataHost(request.URL.Hostname())
			}
			return through, err
		}
	}
	return transport
}

// Libraries that ask by Go's default client are held to the same rules: containerd's
// fetches from the addresses that a manifest gives its layers.
func init() { nethttp.DefaultTransport = webTransport(machineProxy) }

// maxWebConnections bounds the connections to the web and to registries: a quarter of the descriptors, and at most 4,096,
// which bounds their memory.
var maxWebConnections = func() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		panic(err)
	}
	return int(min(files.Cur/4, 4096))
}()

// webDialer connects builds to the web.
var webDialer = newDialer(5*time.Minute, 30*time.Second, 30*time.Second, maxWebConnections)

// dialer bounds connections, refuses those to metadata services, and ends those on which nothing is read or written for
// too long: a server that falls silent would hold up every build with the same step.
type dialer struct {
	silence time.Duration
	// Bounds the wait for a place: net/http dials on when a request has ended.
	patience time.Duration
	// A connection without progress for longer gives its place to one that waits.
	grace  time.Duration
	places int
	// One dial of each session waits for a place at a time.
	sessions slots

	mu sync.Mutex
	// Those that have a place: dials under way, too.
	conns map[*impatientConn]struct{}
	// The places of each session.
	held map[string]int
	// Dials that wait for a place, the oldest first.
	line []*impatientConn
}

func newDialer(silence, patience, grace time.Duration, places int) *dialer {
	return &dialer{
		silence: silence, patience: patience, grace: grace, places: places,
		sessions: slots{size: 1}, conns: map[*impatientConn]struct{}{}, held: map[string]int{},
	}
}

// next returns the one in the line whose session has fewest places, which gets the next one; the line is not empty.
func (d *dialer) next() *impatientConn {
	return slices.MinFunc(d.line, func(a, b *impatientConn) int { return cmp.Compare(d.held[a.session], d.held[b.session]) })
}

// givePlaces gives free places to the line.
func (d *dialer) givePlaces() {
	for len(d.line) > 0 && len(d.conns) < d.places {
		next := d.next()
		d.line = slices.DeleteFunc(d.line, func(each *impatientConn) bool { return each == next })
		d.conns[next] = struct{}{}
		d.held[next.session]++
		next.progressed = time.Now()
		close(next.placed)
	}
}

// takePlace passes on the place of one that has one.
func (d *dialer) takePlace(from *impatientConn) {
	if _, hasOne := d.conns[from]; !hasOne {
		return
	}
	delete(d.conns, from)
	if d.held[from.session]--; d.held[from.session] == 0 {
		delete(d.held, from.session)
	}
	d.givePlaces()
}

// progressBytes is how much a connection moves to make progress: a server may send a byte now and then for ever.
const progressBytes = 16 << 10

// makePlace takes the place, for the next in the line, of the connection without progress for longest, if for the grace at
// least; else of one of the session that has most, if it then still has as many as the next one's. If none gives way it returns
// the time until one has made no progress for the grace.
func (d *dialer) makePlace() time.Duration {
	d.mu.Lock()
	if len(d.line) == 0 {
		d.mu.Unlock()
		return d.grace
	}
	most := 0
	for _, places := range d.held {
		most = max(most, places)
	}
	var oldest, surplus *impatientConn
	for each := range d.conns {
		if oldest == nil || each.progressed.Before(oldest.progressed) {
			oldest = each
		}
		if d.held[each.session] == most && (surplus == nil || each.progressed.Before(surplus.progressed)) {
			surplus = each
		}
	}
	left := d.grace - time.Since(oldest.progressed)
	if left > 0 && most > d.held[d.next().session]+1 {
		oldest, left = surplus, 0
	}
	end := func() {}
	if left <= 0 {
		oldest.gaveWay, end = true, oldest.end
		d.takePlace(oldest)
	}
	d.mu.Unlock()
	end()
	return left
}

// wait waits for a place.
func (d *dialer) wait(ctx context.Context, dial *impatientConn) error {
	leave, err := d.sessions.take(ctx, dial.session)
	if err != nil {
		return err
	}
	defer leave()
	d.mu.Lock()
	d.line = append(d.line, dial)
	d.givePlaces()
	d.mu.Unlock()
	for {
		left := time.NewTimer(d.makePlace())
		select {
		case <-dial.placed:
			return nil
		case <-left.C:
		case <-ctx.Done():
			d.leave(dial)
			return context.Cause(ctx)
		}
	}
}

// leave gives a place back, or leaves the line.
func (d *dialer) leave(made *impatientConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line = slices.DeleteFunc(d.line, func(each *impatientConn) bool { return each == made })
	d.takePlace(made)
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, d.patience, errors.New("too many connections to the web and to registries are open"))
	defer cancel()
	builds, _ := ctx.Value(buildsOfContext{}).([]string)
	dialing, giveUp := context.WithCancel(ctx)
	defer giveUp()
	made := &impatientConn{dialer: d, session: cmp.Or(builds...), placed: make(chan struct{}), end: giveUp}
	if err := d.wait(waiting, made); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return refuseMetadata(to.Addr())
	}}).DialContext(dialing, network, address)
	if err != nil {
		err = made.progress(0, err)
		d.leave(made)
		return nil, err
	}
	d.mu.Lock()
	made.Conn, made.end, made.progressed = conn, func() { _ = made.Close() }, time.Now()
	gone := made.gaveWay
	d.mu.Unlock()
	if gone {
		_ = made.Close()
		return nil, gaveWay{}
	}
	return made, nil
}

// impatientConn fails once its peer is silent for too long. Written bytes count as well: a server answers an upload at
// its end.
type impatientConn struct {
	net.Conn
	dialer  *dialer
	session string
	// Closed once it has a place.
	placed chan struct{}
	// The last progress, and the bytes since.
	progressed time.Time
	moved      int
	gaveWay    bool
	// Ends the dial or the connection.
	end func()
}

func (c *impatientConn) Close() error {
	defer c.dialer.leave(c)
	return c.Conn.Close()
}

func (c *impatientConn) Read(into []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.dialer.silence)); err != nil {
		return 0, c.progress(0, err)
	}
	n, err := c.Conn.Read(into)
	return n, c.progress(n, err)
}

// gaveWay is net.ErrClosed with its reason.
type gaveWay struct{}

func (gaveWay) Error() string {
	return "the builder's web connections are all taken: this one moved too little, or the build that opened it had most, and it was closed for one that waited"
}
func (gaveWay) Is(target error) bool { return target == net.ErrClosed }

// progress counts bytes, and returns the error of a read or a write with its reason.
func (c *impatientConn) progress(bytes int, err error) error {
	c.dialer.mu.Lock()
	defer c.dialer.mu.Unlock()
	if c.moved += bytes; c.moved >= progressBytes {
		c.moved, c.progressed = 0, time.Now()
	}
	if err != nil && c.gaveWay {
		return gaveWay{}
	}
	return err
}

func (c *impatientConn) Write(from []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.dialer.silence)); err != nil {
		return 0, c.progress(0, err)
	}
	n, err := c.Conn.Write(from)
	return n, c.progress(n, err)
}

// Download downloads a file for a build of a session, or of none, up to the limit of contexts.
func (w *Worker) Download(ctx context.Context, sessionID, address string) (io.ReadCloser, error) {
	ctx = ForBuilds(ctx, session.NewGroup(cmp.Or(sessionID, identity.NewID())))
	request, err := nethttp.NewRequestWithContext(ctx, nethttp.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the URL could not be parsed") // The error's own text has a password in full.
	}
	response, err := (&nethttp.Client{Transport: w.web}).Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != nethttp.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s", request.URL.Redacted(), response.Status)
	}
	return response.Body, nil
}

// metadataServices are those beside the link-local addresses.
var metadataServices = []netip.Prefix{
	netip.MustParsePrefix("fd00:ec2::/32"),
	netip.MustParsePrefix("fd20:ce::/32"),       // Google Cloud
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	// Azure: the machine agent, on ports 80 and 32526 (Microsoft Learn, "What is IP address 168.63.129.16").
	netip.MustParsePrefix("168.63.129.16/32"),
}

// refuseMetadata refuses addresses at which clouds serve a machine's credentials, so that builds cannot get the
// backend's own.
func refuseMetadata(address netip.Addr) error {
	plain := address.Unmap().WithZone("")
	isService := slices.ContainsFunc(metadataServices, func(each netip.Prefix) bool { return each.Contains(plain) })
	if plain.IsLinkLocalUnicast() || isService {
		return fmt.Errorf("%s is the address of a metadata service, which no build may ask", address)
	}
	return nil
}

// refuseMetadataHost refuses them as literals, including non-canonical forms of IPv4, which a proxy may parse.
func refuseMetadataHost(host string) error {
	host = strings.TrimSuffix(host, ".")
	if address, err := netip.ParseAddr(host); err == nil {
		return refuseMetadata(address)
	}
	last := strings.ToLower(host[strings.LastIndex(host, ".")+1:])
	if hex, ok := strings.CutPrefix(last, "0x"); (ok && strings.Trim(hex, "0123456789abcdef") == "") || (last != "" && strings.Trim(last, "0123456789") == "") {
		return fmt.Errorf("%q could be the address of a metadata service, which no build may ask", host)
	}
	return nil
}

// boundedTransport cuts responses that exceed its limit.
type boundedTransport struct {
	nethttp.RoundTripper
	limit int64
}

func (t *boundedTransport) RoundTrip(request *nethttp.Request) (*nethttp.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{response.Body, t.limit, t.limit, "the limit of builder.context_size"}
	return response, nil
}

type boundedBody struct {
	io.ReadCloser
	limit, left int64
	// The limit in words, for errors.
	name string
}

func (b *boundedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("the answer is larger than %d bytes, %s", b.limit, b.name)
	}
	return n, err
}
