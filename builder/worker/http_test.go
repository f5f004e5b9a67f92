package worker

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/source/http"
	"golang.org/x/net/dns/dnsmessage"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

const wantedRefusal = "the address of a metadata service"

// refused expects that a URL is not requested.
func refused(t *testing.T, transport nethttp.RoundTripper, address string) {
	t.Helper()
	response, err := (&nethttp.Client{Transport: transport}).Get(address)
	if err == nil {
		response.Body.Close()
	}
	assert.Check(t, is.ErrorContains(err, wantedRefusal), address)
}

var metadataHosts = []string{
	"169.254.169.254", "169.254.170.2:80", "168.63.129.16", "[::ffff:168.63.129.16]:32526", "[::ffff:169.254.169.254]", "[fe80::1]", "[fe80::1%25lo]", "[fd00:ec2::254]", "[fd00:ec2::23]:80", "[fd20:ce::254]", "100.100.100.200",
}

// containerd fetches by it from the addresses that a manifest gives its layers.
func TestTheDefaultClientAsksNoMetadataService(t *testing.T) {
	for _, host := range metadataHosts {
		refused(t, nethttp.DefaultTransport, "http://"+host+"/latest/meta-data")
	}
}

func TestADownloadAsksNoMetadataService(t *testing.T) {
	target := ""
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/away" {
			nethttp.Redirect(w, r, target, nethttp.StatusFound)
			return
		}
		io.WriteString(w, "content")
	}))
	defer server.Close()
	transport := downloading(nil, 1<<20)
	for _, host := range metadataHosts {
		target = "http://" + host + "/latest/meta-data"
		refused(t, transport, target)
		refused(t, transport, server.URL+"/away")
	}
	response, err := (&nethttp.Client{Transport: transport}).Get(server.URL)
	assert.NilError(t, err)
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAChainOfRedirectsEndsAtNoMetadataService(t *testing.T) {
	var chain []string
	hops := 0
	answer := nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		hops++
		next := chain[0]
		chain = chain[1:]
		nethttp.Redirect(w, r, next, nethttp.StatusTemporaryRedirect)
	})
	plain, other, secure := httptest.NewServer(answer), httptest.NewServer(answer), httptest.NewTLSServer(answer)
	defer plain.Close()
	defer other.Close()
	defer secure.Close()
	transport := downloading(nil, 1<<20)
	insecure := webTransport(nil)
	insecure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	for _, host := range metadataHosts {
		target := "http://" + host + "/latest/meta-data"
		chain = []string{other.URL, plain.URL, target}
		refused(t, transport, plain.URL)
		chain = []string{secure.URL, other.URL, secure.URL, target}
		refused(t, insecure, plain.URL)
	}
	if want := len(metadataHosts) * 7; hops != want {
		t.Errorf("%d hops, not %d", hops, want)
	}
}

func TestADownloadAsksNoMetadataServiceByItsName(t *testing.T) {
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerNames(there, [4]byte{169, 254, 169, 254})
		return here, nil
	}}
	refused(t, downloading(nil, 1<<20), "http://metadata.example./")
}

// answerNames answers a DNS client's question, as over TCP: each name has one address.
func answerNames(conn net.Conn, address [4]byte) {
	defer conn.Close()
	var size uint16
	if binary.Read(conn, binary.BigEndian, &size) != nil {
		return
	}
	question := make([]byte, size)
	var asked dnsmessage.Message
	if _, err := io.ReadFull(conn, question); err != nil || asked.Unpack(question) != nil {
		return
	}
	asked.Response = true
	asked.Additionals = nil
	if each := asked.Questions[0]; each.Type == dnsmessage.TypeA {
		asked.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: each.Name, Type: each.Type, Class: each.Class}, Body: &dnsmessage.AResource{A: address},
		}}
	}
	answer, err := asked.Pack()
	if err != nil {
		return
	}
	_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
}

func TestAProxyIsAskedForNoMetadataService(t *testing.T) {
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) { io.WriteString(w, r.URL.String()) }))
	defer server.Close()
	proxy, err := url.Parse(server.URL)
	assert.NilError(t, err)
	transport := downloading(nethttp.ProxyURL(proxy), 1<<20)
	for _, host := range append([]string{"169.254.169.254.", "2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376"}, metadataHosts...) {
		refused(t, transport, "http://"+host+"/")
		refused(t, transport, "https://"+host+"/")
	}
	for _, address := range []string{"http://files.example/1", "http://192.0.2.1/1", "http://[2001:db8::1]/1"} {
		response, err := (&nethttp.Client{Transport: transport}).Get(address)
		assert.NilError(t, err)
		defer response.Body.Close()
		if got, err := io.ReadAll(response.Body); err != nil || string(got) != address {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// resolvingJob is a build that shares no resolutions with others.
type resolvingJob struct{ job }

func (*resolvingJob) ResolverCache() solver.ResolverCache { return nil }

// sending returns a source limited to files of 1000 bytes, and the session of a client with the files that it sends.
func sending(t *testing.T) (*httpSource, *session.Manager, *session.Session, *uploadprovider.Uploader) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w, _ := workerOf(t)
	w.web = downloading(nil, 1000)
	files, err := newHTTPSource(w)
	must(t, err)
	sessions, err := session.NewManager()
	must(t, err)
	client, err := session.NewSession(ctx, "")
	must(t, err)
	uploads := uploadprovider.New()
	client.Allow(uploads)
	go client.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
		here, there := net.Pipe()
		go sessions.HandleConn(ctx, there, meta)
		return here, nil
	})
	return files, sessions, client, uploads
}

func TestWhatASessionSendsIsNoLargerThanAContext(t *testing.T) {
	files, sessions, client, uploads := sending(t)
	for _, asked := range []struct{ scheme, host string }{
		{"http", "buildkit-session"}, {"https", "buildkit-session"}, {"http", "x@buildkit-session"}, {"http", "x:y@buildkit-session"},
		{"http", "buildkit-session:"}, {"http", "buildkit-session:80"}, {"http", "buildkit-session/below"},
	} {
		for size, isRefused := range map[int]bool{1000: false, 1001: true} {
			content := io.NopCloser(strings.NewReader(strings.Repeat("x", size)))
			name := strings.TrimPrefix(uploads.Add(content), "http://buildkit-session/")
			id, err := files.Identifier(asked.scheme, asked.host+"/"+name, nil, nil)
			must(t, err)
			made, err := files.Resolve(t.Context(), id, sessions, nil)
			must(t, err)
			_, _, _, _, err = made.CacheKey(t.Context(), &resolvingJob{job{session: client.ID()}}, 0)
			if (err != nil) != isRefused || (isRefused && !strings.Contains(err.Error(), "larger than 1000 bytes, the limit of builder.context_size")) {
				t.Errorf("%s at %s, %d bytes: %v", asked.scheme, asked.host, size, err)
			}
		}
	}
}

func TestWhatIsKnownOfAFileIsAskedWithinTheLimitsOfContexts(t *testing.T) {
	files, sessions, client, uploads := sending(t)
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1001))
	}))
	defer server.Close()
	sent := uploads.Add(io.NopCloser(strings.NewReader(strings.Repeat("x", 1001))))
	for _, asked := range []struct{ address, refusal string }{
		{strings.TrimPrefix(server.URL, "http://"), "larger than 1000 bytes"}, {strings.TrimPrefix(sent, "http://"), "larger than 1000 bytes"},
		{"169.254.169.254/latest", "the address of a metadata service"},
	} {
		id, err := files.Identifier("http", asked.address, nil, nil)
		must(t, err)
		_, err = files.ResolveMetadata(t.Context(), id.(*http.HTTPIdentifier), sessions, &resolvingJob{job{session: client.ID()}}, http.MetadataOpts{})
		if err == nil || !strings.Contains(err.Error(), asked.refusal) {
			t.Errorf("%s: %v", asked.address, err)
		}
	}
}

func TestWhatASessionSendsIsBoundedWithoutAPath(t *testing.T) {
	files, sessions, _, _ := sending(t)
	for _, asked := range []string{"buildkit-session", "buildkit-session?f", "buildkit-session#f", "x@buildkit-session?f"} {
		id, err := files.Identifier("http", asked, nil, nil)
		must(t, err)
		_, err = files.Resolve(t.Context(), id, sessions, nil)
		must(t, err)
		if got := id.String(); !strings.HasPrefix(got, "http://buildkit-session:80") {
			t.Errorf("%s is asked for at %s", asked, got)
		}
	}
}

func TestAWebServerLeadsToNoSession(t *testing.T) {
	files, sessions, client, uploads := sending(t)
	target := ""
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Location", target)
		w.WriteHeader(nethttp.StatusFound)
	}))
	defer server.Close()
	for _, prefix := range []string{"http://buildkit-session/", "//buildkit-session/", "https://x@buildkit-session/", "http://buildkit-session:80/"} {
		sent := uploads.Add(io.NopCloser(strings.NewReader("content")))
		target = prefix + strings.TrimPrefix(sent, "http://buildkit-session/")
		id, err := files.Identifier("http", strings.TrimPrefix(server.URL, "http://"), nil, nil)
		must(t, err)
		made, err := files.Resolve(t.Context(), id, sessions, nil)
		must(t, err)
		_, _, _, _, err = made.CacheKey(t.Context(), &resolvingJob{job{session: client.ID()}}, 0)
		assert.Check(t, is.ErrorContains(err, "redirects to a client's session"), target)
	}
}

func TestAServerThatFallsSilentIsLeft(t *testing.T) {
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		io.WriteString(w, "begun")
		w.(nethttp.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	transport := webTransport(nil)
	transport.DialContext = newDialer(200*time.Millisecond, time.Minute, time.Minute, 1).DialContext
	answer, err := (&nethttp.Client{Transport: transport}).Get(server.URL)
	must(t, err)
	defer answer.Body.Close()
	_, err = io.ReadAll(answer.Body)
	assert.Check(t, is.ErrorIs(err, os.ErrDeadlineExceeded))
}

func TestAClientsDownloadsAreBounded(t *testing.T) {
	files, sessions, client, _ := sending(t)
	files.clients.size = 2
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		asked <- struct{}{}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	ended := make(chan error, 10)
	download := func(name, session string) {
		id, err := files.Identifier("http", strings.TrimPrefix(server.URL, "http://")+name, nil, nil)
		must(t, err)
		made, err := files.Resolve(t.Context(), id, sessions, nil)
		must(t, err)
		go func() {
			_, _, _, _, err := made.CacheKey(t.Context(), &resolvingJob{job{session: session}}, 0)
			ended <- err
		}()
	}
	for _, name := range []string{"/a", "/b", "/c"} {
		download(name, client.ID())
	}
	<-asked
	<-asked
	download("/d", "") // of one without a session
	<-asked
	select {
	case <-asked:
		t.Error("a third file of one client is asked for")
	case <-time.After(50 * time.Millisecond):
	}
	close(answer)
	for range 4 {
		must(t, <-ended)
	}
}

func TestConnectionsToTheWebAreBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	address := listener.Addr().String()
	bounded := newDialer(time.Minute, 10*time.Millisecond, time.Hour, 2)
	dial := func() (net.Conn, error) { return bounded.DialContext(t.Context(), "tcp", address) }
	first, err := dial()
	must(t, err)
	second, err := dial()
	must(t, err)
	_, err = dial()
	assert.Check(t, is.ErrorContains(err, "too many connections to the web"), "the third")
	// The place of each is given back once, and that of one that fails.
	must(t, second.Close())
	_ = second.Close()
	_, err = bounded.DialContext(t.Context(), "tcp", "169.254.169.254:80")
	assert.Check(t, is.ErrorContains(err, wantedRefusal), "a metadata service")
	third, err := dial()
	must(t, err)
	if _, err := dial(); err == nil {
		t.Error("one more has a place")
	}
	must(t, first.Close())
	must(t, third.Close())
}

func TestAConnectionWithoutProgressGivesWay(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	bounded := newDialer(time.Minute, time.Minute, time.Hour, 2)
	dial := func() (*impatientConn, net.Conn) {
		conn, err := bounded.DialContext(t.Context(), "tcp", listener.Addr().String())
		must(t, err)
		there, err := listener.Accept()
		must(t, err)
		t.Cleanup(func() { conn.Close(); there.Close() })
		return conn.(*impatientConn), there
	}
	busy, busyThere := dial()
	slow, slowThere := dial()
	for _, each := range []*impatientConn{busy, slow} {
		each.progressed = time.Now().Add(-2 * time.Hour)
	}
	_, err = busyThere.Write(make([]byte, progressBytes))
	must(t, err)
	_, err = io.ReadFull(busy, make([]byte, progressBytes))
	must(t, err)
	_, err = slowThere.Write([]byte{0})
	must(t, err)
	_, err = io.ReadFull(slow, make([]byte, 1))
	must(t, err)
	dial()
	_, err = slow.Write([]byte{0})
	assert.Check(t, is.ErrorIs(err, gaveWay{}), "the one of a byte now and then")
	_, err = busy.Write([]byte{0})
	assert.Check(t, err, "the busy one")
	waiting, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = bounded.DialContext(waiting, "tcp", listener.Addr().String())
	assert.Check(t, is.ErrorIs(err, context.DeadlineExceeded), "a connection within its grace gave way")
}

func TestAConnectionOfTheSessionThatHasMostGivesWay(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	bounded := newDialer(time.Minute, 200*time.Millisecond, time.Hour, 3)
	dial := func(session string) (net.Conn, error) {
		ctx := context.WithValue(t.Context(), buildsOfContext{}, []string{session})
		conn, err := bounded.DialContext(ctx, "tcp", listener.Addr().String())
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return conn, err
	}
	var many []net.Conn
	for range 3 {
		conn, err := dial("many")
		must(t, err)
		many = append(many, conn)
	}
	_, err = dial("another")
	must(t, err)
	_, err = many[0].Write([]byte{0})
	assert.Check(t, is.ErrorIs(err, gaveWay{}), "the one that has moved something least recently")
	for _, session := range []string{"another", "many"} {
		_, err = dial(session)
		assert.Check(t, is.ErrorContains(err, "too many connections to the web"), "%q has its share", session)
	}
	for _, each := range many[1:] {
		_, err = each.Write([]byte{0})
		must(t, err)
	}
}

func (d *dialer) taken() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

func TestPlacesOfDialsCountForTheirSession(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	bounded := newDialer(time.Minute, 50*time.Millisecond, time.Hour, 5)
	dial := func(session string) (net.Conn, error) {
		return bounded.DialContext(context.WithValue(t.Context(), buildsOfContext{}, []string{session}), "tcp", listener.Addr().String())
	}
	var moving []net.Conn
	for range 2 {
		conn, err := dial("ordinary")
		must(t, err)
		moving = append(moving, conn)
	}
	var dials []*impatientConn
	for range 3 {
		made := &impatientConn{session: "dialing", placed: make(chan struct{}), end: func() {}}
		must(t, bounded.wait(t.Context(), made))
		dials = append(dials, made)
	}
	_, err = dial("dialing")
	assert.Check(t, is.ErrorContains(err, "too many connections to the web"))
	third, err := dial("third")
	must(t, err)
	must(t, third.Close())
	for _, each := range moving {
		_, err = each.Write([]byte{0})
		assert.Check(t, err, "not of the session that has most")
		must(t, each.Close())
	}
	for _, each := range dials {
		bounded.leave(each)
	}
	if len(bounded.held) != 0 || bounded.taken() != 0 {
		t.Errorf("held are %v", bounded.held)
	}
}

// silentAddress is an address of this machine whose queue of connections is full: dials hang.
func silentAddress(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	must(t, err)
	t.Cleanup(func() { syscall.Close(socket) })
	must(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(socket, 0))
	bound, err := syscall.Getsockname(socket)
	must(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
}

func TestADialOfTheSessionThatHasMostGivesWay(t *testing.T) {
	silent := silentAddress(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	bounded := newDialer(time.Minute, 2*time.Second, time.Hour, 3)
	dial := func(session, address string) error {
		ctx := context.WithValue(t.Context(), buildsOfContext{}, []string{session})
		conn, err := bounded.DialContext(ctx, "tcp", address)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	}
	dials := make(chan error, 3)
	for range 3 {
		go func() { dials <- dial("dialing", silent) }()
	}
	for bounded.taken() < 3 {
		time.Sleep(time.Millisecond)
	}
	must(t, dial("ordinary", listener.Addr().String()))
	assert.Check(t, is.ErrorIs(<-dials, gaveWay{}))
	bounded.mu.Lock()
	defer bounded.mu.Unlock()
	assert.Check(t, is.DeepEqual(bounded.held, map[string]int{"dialing": 2, "ordinary": 1}))
}

func TestThoseWhoWaitForAPlaceStandInALineInWhichASessionHasOne(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	bounded := newDialer(time.Minute, time.Minute, time.Hour, 1)
	type made struct {
		session string
		conn    net.Conn
	}
	all := make(chan made)
	dial := func(session string) {
		ctx := context.WithValue(t.Context(), buildsOfContext{}, []string{session})
		conn, err := bounded.DialContext(ctx, "tcp", listener.Addr().String())
		assert.Check(t, err)
		all <- made{session, conn}
	}
	inLine := func(line *slots) (count int) {
		line.mu.Lock()
		defer line.mu.Unlock()
		for _, each := range line.of {
			count += each.users
		}
		return count
	}
	waitFor := func(line *slots, waiting int) {
		for tries := 0; inLine(line) < waiting && tries < 1000; tries++ {
			time.Sleep(time.Millisecond)
		}
	}
	go dial("many")
	last := <-all
	for at := range 3 {
		go dial("many")
		waitFor(&bounded.sessions, at+1)
	}
	go dial("another")
	waitFor(&bounded.sessions, 4)
	var order []string
	for range 4 {
		must(t, last.conn.Close())
		last = <-all
		order = append(order, last.session)
	}
	must(t, last.conn.Close())
	assert.Check(t, is.DeepEqual(order, []string{"many", "another", "many", "many"}))
}

func TestAPlaceGoesToTheOneInTheLineWhoseSessionHasFewest(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	bounded := newDialer(time.Minute, time.Minute, time.Hour, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	dial := func(session string) error {
		conn, err := bounded.DialContext(context.WithValue(ctx, buildsOfContext{}, []string{session}), "tcp", listener.Addr().String())
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	}
	for range 3 {
		must(t, dial("many"))
	}
	ended := make(chan error)
	go func() { ended <- dial("many") }()
	for isWaiting := false; !isWaiting; time.Sleep(time.Millisecond) {
		bounded.mu.Lock()
		isWaiting = len(bounded.line) == 1
		bounded.mu.Unlock()
	}
	assert.Check(t, dial("few"))
	cancel()
	<-ended
}

// transportOf is a transport that a function stands for.
type transportOf func(*nethttp.Request) (*nethttp.Response, error)

func (t transportOf) RoundTrip(request *nethttp.Request) (*nethttp.Response, error) {
	return t(request)
}

func TestADownloadOfABuildWithoutASessionHasAPlaceInLineOfItsOwn(t *testing.T) {
	var places []string
	w := &Worker{web: transportOf(func(request *nethttp.Request) (*nethttp.Response, error) {
		builds, _ := request.Context().Value(buildsOfContext{}).([]string)
		places = append(places, builds...)
		return nil, io.EOF
	})}
	for _, session := range []string{"one", "", ""} {
		_, err := w.Download(t.Context(), session, "http://files.example/context.tar")
		assert.Check(t, is.ErrorIs(err, io.EOF))
	}
	if len(places) != 3 || places[0] != "one" || places[1] == places[2] || places[1] == "" {
		t.Errorf("places %q", places)
	}
}

func TestConnectionsOfAllTransportsCount(t *testing.T) {
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.(nethttp.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	const perTransport = 3
	asked := 0
	for _, transport := range []nethttp.RoundTripper{
		nethttp.DefaultTransport, downloading(nil, 1<<20), askingRegistries(nil, false), askingRegistries(nil, true), askingRegistries(nil, true),
	} {
		for range perTransport {
			answer, err := (&nethttp.Client{Transport: transport}).Get(server.URL)
			must(t, err)
			defer answer.Body.Close()
			asked++
		}
	}
	assert.Check(t, webDialer.taken() >= asked)
}
