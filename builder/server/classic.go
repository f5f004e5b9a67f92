package server

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/util/urlutil"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sockerless/sockerless/builder/worker"
)

// refused is an error with its HTTP status in the Docker API.
type refused struct {
	status  int
	message string
}

func (r *refused) Error() string { return r.message }

// wrong is the refusal of a value that cannot be what it is given for.
func wrong(format string, values ...any) error {
	return &refused{http.StatusBadRequest, fmt.Sprintf(format, values...)}
}

func unbuilt(what string) error {
	return &refused{http.StatusNotImplemented, fmt.Sprintf("sockerless: docker build %s is not implemented by the builder", what)}
}

// build serves `POST /build`: it unpacks a tar, which BuildKit builds like a client's own directory.
func (s *Server) build(w http.ResponseWriter, r *http.Request) {
	out := &messages{w: w}
	if err := s.buildOf(r, out); err != nil {
		if !out.began {
			answer := http.StatusInternalServerError
			if refusal := new(refused); errors.As(err, &refusal) {
				answer = refusal.status
			}
			writeError(w, answer, err.Error())
			return
		}
		out.fail(err)
	}
}

func (s *Server) buildOf(r *http.Request, out *messages) error {
	query := r.URL.Query()
	if id, ok := strings.CutPrefix(query.Get("buildid"), uploadRequest+":"); ok {
		return s.uploads.give(r.Context(), id, r.Body)
	}
	request, err := solveRequest(query)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if id := query.Get("buildid"); id != "" {
		defer s.cancellable(id, cancel)()
	}
	// The last step's container is removed before the client learns of the end.
	defer func() {
		if s.memory.exceeded.Err() == nil {
			s.worker.WaitForRemovals(r.Context(), request.Session)
		}
	}()
	// The end of another build does not remove this one's context.
	ctx, end := s.beginBuild(ctx)
	defer end()
	isQuiet := isSet(query, "q")
	isTraced := query.Get("version") == "2" && !isQuiet
	var plan *plan
	remote, body := query.Get("remote"), io.Reader(r.Body)
	if remote == uploadRequest {
		if query.Get("buildid") == "" {
			return &refused{http.StatusBadRequest, "a build whose context is uploaded names no build ID"}
		}
		given, err := s.uploads.take(ctx, query.Get("buildid"))
		if err != nil {
			return err
		}
		defer given.done()
		remote, body = "", given.content
	}
	if remote == "client-session" {
		if request.Session == "" {
			return &refused{http.StatusBadRequest, "a build of a session's files names no session"}
		}
	} else {
		directory, release, err := s.contextOf(ctx, request.Session, remote, body, request.FrontendAttrs)
		if err != nil {
			return err
		}
		defer release()
		if plan, err = s.planOf(ctx, directory, request.FrontendAttrs); err != nil {
			return err
		}
		done, err := s.serveFiles(ctx, request, directory, r.Header.Get("X-Registry-Config"))
		if err != nil {
			return err
		}
		defer done()
	}
	var show func(*controlapi.StatusResponse) error
	switch {
	case isTraced:
		show = out.trace
	case isQuiet || plan == nil:
		show = func(*controlapi.StatusResponse) error { return nil }
	default:
		plan.out = out
		show = plan.show
	}
	id, err := s.solve(ctx, request, show)
	if err != nil {
		if plan != nil && !isTraced {
			plan.stop()
		}
		if r.Context().Err() == nil && ctx.Err() != nil {
			return errors.New("build canceled")
		}
		return err
	}
	if id == "" {
		return nil // the client gets it in another form
	}
	return out.end(id, plan, query["t"], isTraced)
}

// planOf parses the Dockerfile within the memory bounds, since its arguments may take any amount.
func (s *Server) planOf(ctx context.Context, directory string, attributes map[string]string) (*plan, error) {
	return withinMemory(ctx, s.memory, func(context.Context) (*plan, error) { return readPlan(directory, attributes) })
}

// solve runs a build and returns the image's ID.
func (s *Server) solve(ctx context.Context, request *controlapi.SolveRequest, show func(*controlapi.StatusResponse) error) (string, error) {
	ctx, end := s.beginBuild(ctx)
	defer end()
	defer s.sessionNames.hide(request.FrontendAttrs, request.Session)()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	var response *controlapi.SolveResponse
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		response, err = withinMemory(ctx, s.memory, func(ctx context.Context) (*controlapi.SolveResponse, error) {
			return s.controller.Solve(ctx, request)
		})
		if err != nil {
			// A build refused at once has no status stream to end.
			stopWatching()
		}
		return err
	})
	shown := make(chan error, 1)
	go func() {
		shown <- s.controller.Status(&controlapi.StatusRequest{Ref: request.Ref}, &statusStream{ctx: watching, show: show})
	}()
	err := group.Wait()
	if showErr := <-shown; err == nil && showErr != nil {
		err = showErr
	}
	if err != nil {
		return "", err
	}
	return response.ExporterResponse[exptypes.ExporterImageDigestKey], nil
}

// statusStream receives the controller's status messages.
type statusStream struct {
	grpc.ServerStream
	ctx  context.Context
	show func(*controlapi.StatusResponse) error
}

func (s *statusStream) Context() context.Context                       { return s.ctx }
func (s *statusStream) Send(response *controlapi.StatusResponse) error { return s.show(response) }
func (s *statusStream) SendMsg(message any) error {
	return s.show(message.(*controlapi.StatusResponse))
}
func (s *statusStream) SetHeader(metadata.MD) error  { return nil }
func (s *statusStream) SendHeader(metadata.MD) error { return nil }
func (s *statusStream) SetTrailer(metadata.MD)       {}

// contextOf unpacks a request's context into a directory: the one at `remote`, or the body. A remote Dockerfile becomes
// the build's, whatever its name in the attributes.
func (s *Server) contextOf(ctx context.Context, sessionID, remote string, body io.Reader, attributes map[string]string) (directory string, release func() error, err error) {
	if remote != "" {
		directory, release, err = s.worker.CheckOut(ctx, remote)
		if err != nil {
			return "", nil, fmt.Errorf("error fetching: %w", err)
		}
		if directory != "" {
			return directory, release, nil
		}
		if !strings.HasPrefix(remote, "http://") && !strings.HasPrefix(remote, "https://") {
			return "", nil, wrong("remoteURL (%s) could not be recognized as URL", urlutil.RedactCredentials(remote))
		}
		downloaded, err := s.worker.Download(ctx, sessionID, remote)
		if err != nil {
			return "", nil, fmt.Errorf("error downloading remote context %s: %w", urlutil.RedactCredentials(remote), err)
		}
		defer downloaded.Close()
		body = downloaded
	}
	if directory, err = os.MkdirTemp(s.scratch, "upload-"); err != nil {
		return "", nil, err
	}
	release = func() error { return os.RemoveAll(directory) }
	if remote != "" {
		err = s.unpackFile(ctx, body, directory, attributes)
	} else {
		err = s.unpackBody(ctx, body, directory)
	}
	if err != nil {
		return "", nil, errors.Join(err, release())
	}
	return directory, release, nil
}

// unpackFile unpacks an archive, or stores text as the Dockerfile, as dockerd does.
func (s *Server) unpackFile(ctx context.Context, content io.Reader, directory string, attributes map[string]string) error {
	buffered := bufio.NewReaderSize(content, 512)
	begin, err := buffered.Peek(512)
	if err != nil && err != io.EOF {
		return err
	}
	if !strings.HasPrefix(http.DetectContentType(begin), "text/plain") {
		return s.unpackBody(ctx, buffered, directory)
	}
	attributes["filename"] = defaultDockerfile
	file, err := os.Create(filepath.Join(directory, defaultDockerfile))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, buffered)
	return errors.Join(err, file.Close())
}

// unpackBody unpacks a context with the compressions that dockerd supports. A broken one gives dockerd's error.
func (s *Server) unpackBody(ctx context.Context, body io.Reader, directory string) error {
	content, err := s.worker.Decompress(ctx, body)
	if err == nil {
		err = s.worker.UnpackContext(directory, tar.NewReader(content))
		_ = content.Close() // No program decompresses, which would wait for the client's last byte.
	}
	// An archive may end before the client's last byte, which has to be read: only then net/http notices that the client
	// leaves.
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, body)
	}()
	if err == nil {
		return nil
	}
	// A client that still sends may not get an answer.
	select {
	case <-read:
	case <-ctx.Done():
	case <-time.After(restLimit):
	}
	return wrong("%s", err)
}

// restLimit bounds the wait for the rest of a context that cannot be unpacked.
const restLimit = 30 * time.Second

// serveFiles offers a directory and the request's credentials to the build, through a session within this process.
func (s *Server) serveFiles(ctx context.Context, request *controlapi.SolveRequest, directory, registries string) (func(), error) {
	files, err := fsutil.NewFS(directory)
	if err != nil {
		return nil, err
	}
	credentials, err := readCredentials(registries)
	if err != nil {
		return nil, err
	}
	// Without a shared key nothing is cached: the next request brings its own files.
	own, err := session.NewSession(ctx, "")
	if err != nil {
		return nil, err
	}
	own.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": files, "dockerfile": files}))
	own.Allow(credentials)
	running := make(chan struct{})
	go func() {
		defer close(running)
		// It ends with the build, which reports the errors.
		_ = own.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			here, there := net.Pipe()
			go s.sessions.HandleConn(ctx, there, meta)
			return here, nil
		})
	}()
	served := s.worker.Serve(own.ID(), directory)
	request.FrontendAttrs[sessionAttribute+"context"] = own.ID()
	request.FrontendAttrs[sessionAttribute+"dockerfile"] = own.ID()
	if request.Session == "" {
		request.Session = own.ID()
	}
	return func() {
		served()
		own.Close()
		<-running
	}, nil
}

// credentials answers BuildKit's requests from the header X-Registry-Config while the build runs.
type credentials struct {
	auth.UnimplementedAuthServer
	byHost map[string]registryLogin
}

// registryLogin is a user's login, or a registry's token that replaces a password.
type registryLogin struct{ Username, Password, IdentityToken string }

func readCredentials(header string) (*credentials, error) {
	read := &credentials{byHost: map[string]registryLogin{}}
	if header == "" {
		return read, nil
	}
	decoded, err := base64.URLEncoding.DecodeString(header)
	if err == nil {
		err = json.Unmarshal(decoded, &read.byHost)
	}
	if err != nil {
		return nil, &refused{http.StatusBadRequest, "invalid X-Registry-Config header"}
	}
	return read, nil
}

func (c *credentials) Register(server *grpc.Server) { auth.RegisterAuthServer(server, c) }

func (c *credentials) Credentials(_ context.Context, request *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	names := []string{request.Host, "https://" + request.Host, "http://" + request.Host}
	if request.Host == "registry-1.docker.io" {
		names = append(names, "https://index.docker.io/v1/", "docker.io", "index.docker.io")
	}
	for _, name := range names {
		known, ok := c.byHost[name]
		if ok && known.IdentityToken != "" {
			// BuildKit treats a secret without a user as a token.
			return &auth.CredentialsResponse{Secret: known.IdentityToken}, nil
		}
		if ok {
			return &auth.CredentialsResponse{Username: known.Username, Secret: known.Password}, nil
		}
	}
	return &auth.CredentialsResponse{}, nil
}

func (c *credentials) GetTokenAuthority(context.Context, *auth.GetTokenAuthorityRequest) (*auth.GetTokenAuthorityResponse, error) {
	return nil, status.Error(codes.Unavailable, "no token authority")
}

// solveRequest converts Docker's query to BuildKit's request.
func solveRequest(query url.Values) (*controlapi.SolveRequest, error) {
	if isSet(query, "squash") {
		return nil, unbuilt("--squash")
	}
	if query.Has("securityopt") {
		return nil, wrong("security options are not supported on linux")
	}
	if text := query.Get("isolation"); text != "" && !strings.EqualFold(text, "default") {
		return nil, wrong("unsupported isolation: %q", text)
	}
	if text := query.Get("version"); text != "" && text != "1" && text != "2" {
		return nil, wrong("invalid version %q", text)
	}
	attributes := map[string]string{"filename": defaultDockerfile}
	for name, key := range map[string]string{"dockerfile": "filename", "target": "target", "platform": "platform"} {
		if text := query.Get(name); text != "" {
			attributes[key] = text
		}
	}
	if text := attributes["platform"]; text != "" {
		if _, err := platforms.Parse(text); err != nil {
			return nil, wrong("%s", err)
		}
	}
	var entitlements []string
	switch mode := query.Get("networkmode"); mode {
	case "", "default", "bridge":
	case "none", "host":
		attributes["force-network-mode"] = mode
		if mode == "host" {
			entitlements = append(entitlements, "network.host")
		}
	default:
		return nil, unbuilt("--network " + mode)
	}
	if isSet(query, "nocache") {
		attributes["no-cache"] = ""
	}
	if isSet(query, "pull") {
		attributes["image-resolve-mode"] = "pull"
	}
	var arguments map[string]*string
	var labels map[string]string
	var images []string
	var outputs []struct {
		Type  string
		Attrs map[string]string
	}
	for _, each := range []struct {
		name, told string
		into       any
	}{
		{"buildargs", "error reading build args", &arguments}, {"labels", "error reading labels", &labels},
		{"cachefrom", "error reading cache-from", &images}, {"outputs", "invalid outputs specified", &outputs},
	} {
		if text := query.Get(each.name); text != "" {
			if err := json.Unmarshal([]byte(text), each.into); err != nil {
				return nil, wrong("%s: %s", each.told, err)
			}
		}
	}
	for name, value := range arguments {
		if value != nil {
			attributes["build-arg:"+name] = *value
		}
	}
	for name, value := range labels {
		attributes["label:"+name] = value
	}
	var hosts []string
	for _, each := range query["extrahosts"] {
		name, address, ok := strings.Cut(each, ":")
		if !ok {
			return nil, wrong("invalid extra host: %s", each)
		}
		if address == "host-gateway" {
			address = worker.HostGateway
		}
		hosts = append(hosts, name+"="+address)
	}
	if len(hosts) > 0 {
		attributes["add-hosts"] = strings.Join(hosts, ",")
	}
	if text := query.Get("shmsize"); text != "" {
		size, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, wrong("%s", err)
		}
		if size != 0 {
			attributes["shm-size"] = strconv.FormatInt(size, 10)
		}
	}
	limits, err := limitsOf(query)
	if err != nil {
		return nil, err
	}
	maps.Copy(attributes, limits)
	if len(images) > 0 {
		attributes["cache-from"] = strings.Join(images, ",")
	}
	cache := &controlapi.CacheOptions{}
	if isInline, err := strconv.ParseBool(attributes["build-arg:BUILDKIT_INLINE_CACHE"]); err == nil && isInline {
		cache.Exports = append(cache.Exports, &controlapi.CacheOptionsEntry{Type: "inline"})
	}
	exporter := &controlapi.Exporter{Type: "moby", Attrs: map[string]string{}}
	if len(outputs) > 1 {
		return nil, &refused{http.StatusBadRequest, "multiple outputs not supported"}
	}
	for _, each := range outputs {
		exporter.Type = each.Type
		maps.Copy(exporter.Attrs, each.Attrs)
	}
	var exporters []*controlapi.Exporter
	if exporter.Type != "cacheonly" {
		exporters = append(exporters, exporter)
	}
	for _, each := range query["t"] {
		named, err := reference.ParseNormalizedNamed(each)
		if err == nil {
			if _, isDigested := named.(reference.Digested); isDigested {
				err = errors.New("build tag cannot contain a digest")
			}
		}
		if err != nil && each != "" {
			return nil, wrong("%s", err)
		}
	}
	if names := query["t"]; len(names) > 0 && (exporter.Type == "moby" || exporter.Type == client.ExporterImage) {
		exporter.Attrs["name"] = strings.Join(names, ",")
	}
	return &controlapi.SolveRequest{
		Ref: identity.NewID(), Session: query.Get("session"), Frontend: "dockerfile.v0", FrontendAttrs: attributes,
		Exporters: exporters, Cache: cache, Entitlements: entitlements,
	}, nil
}

// limitsOf are the attributes that limit steps, as dockerd's classic builder limits its containers.
func limitsOf(query url.Values) (map[string]string, error) {
	limits := map[string]string{}
	for _, name := range []string{"memory", "memswap", "cpushares", "cpuquota", "cpuperiod"} {
		// As in dockerd, invalid numbers are ignored.
		if number, err := strconv.ParseInt(query.Get(name), 10, 64); err == nil && number != 0 {
			limits[name] = strconv.FormatInt(number, 10)
		}
	}
	for name, key := range map[string]string{"cpusetcpus": "cpusetcpus", "cpusetmems": "cpusetmems", "cgroupparent": "cgroup-parent"} {
		if text := query.Get(name); text != "" {
			limits[key] = text
		}
	}
	if text := query.Get("ulimits"); text != "" {
		var ulimits []units.Ulimit
		if err := json.Unmarshal([]byte(text), &ulimits); err != nil {
			return nil, wrong("error reading ulimit settings: %s", err)
		}
		var texts []string
		for at := range ulimits {
			if _, err := ulimits[at].GetRlimit(); err != nil {
				return nil, wrong("%s", err)
			}
			texts = append(texts, ulimits[at].String())
		}
		limits["ulimit"] = strings.Join(texts, ",")
	}
	return limits, nil
}

// isSet is a boolean as dockerd reads it.
func isSet(query url.Values, name string) bool {
	return !slices.Contains([]string{"", "0", "no", "false", "none"}, strings.ToLower(strings.TrimSpace(query.Get(name))))
}

func (s *Server) cancel(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	if id == "" {
		writeError(w, http.StatusBadRequest, "build ID not provided")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for build := range s.builds {
		if build.id == id {
			build.cancel()
		}
	}
	w.WriteHeader(http.StatusOK)
}

// cancellable makes a build cancellable by its ID until the returned function is called. Clients choose the IDs: builds
// may share one.
func (s *Server) cancellable(id string, cancel context.CancelFunc) func() {
	build := &namedBuild{id, cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.builds[build] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.builds, build)
	}
}

// messages is the response's JSON stream; its first message sends status 200.
type messages struct {
	w     http.ResponseWriter
	began bool
}

func (m *messages) write(message any) error {
	if !m.began {
		m.began = true
		m.w.Header().Set("Content-Type", "application/json")
	}
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := m.w.Write(append(data, '\r', '\n')); err != nil {
		return err
	}
	if flusher, ok := m.w.(http.Flusher); ok {
		flusher.Flush()
	}
	return nil
}

func (m *messages) stream(text string) error { return m.write(map[string]string{"stream": text}) }

// trace sends BuildKit's own status messages, which a client of `version=2` displays.
func (m *messages) trace(response *controlapi.StatusResponse) error {
	data, err := response.MarshalVT()
	if err != nil {
		return err
	}
	return m.write(map[string]any{"id": "moby.buildkit.trace", "aux": data})
}

func (m *messages) end(id string, plan *plan, names []string, isTraced bool) error {
	if isTraced {
		return m.write(map[string]any{"id": "moby.image.id", "aux": map[string]string{"ID": id}})
	}
	if plan == nil || plan.out == nil {
		return m.stream(id + "\n")
	}
	plan.finish(id)
	if err := m.write(map[string]any{"aux": map[string]string{"ID": id}}); err != nil {
		return err
	}
	if err := m.stream(fmt.Sprintf("Successfully built %s\n", shortID(id))); err != nil {
		return err
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if !strings.Contains(filepath.Base(name), ":") {
			name += ":latest"
		}
		if err := m.stream(fmt.Sprintf("Successfully tagged %s\n", name)); err != nil {
			return err
		}
	}
	return nil
}

var (
	urlPassword = regexp.MustCompile(`(://[^\s/?#:@]*:)[^\s/?#]*@`)
	// A user without a password: that of a web server is a token, that of SSH a name.
	urlToken = regexp.MustCompile(`(https?://)[^\s/?#:@]+@`)
	// Signed URLs, and many others, have a secret in the query. Punctuation may follow.
	urlQuery = regexp.MustCompile("(://[^\\s\"'`<>\\\\?#]*[?])[^\\s\"'`<>\\\\#]*[^\\s\"'`<>\\\\#:,;.)]")
)

// maskPasswords masks the passwords and tokens before the hosts of URLs in an instruction, which is shown as it was written
// otherwise.
func maskPasswords(text string) string {
	return urlToken.ReplaceAllString(urlPassword.ReplaceAllString(text, "$1***@"), "$1***@")
}

// maskSecrets masks the passwords, tokens and queries of URLs in a message.
func maskSecrets(text string) string {
	return urlQuery.ReplaceAllString(maskPasswords(text), "$1***")
}

func (m *messages) fail(err error) {
	message := maskSecrets(err.Error())
	detail := map[string]any{"message": message}
	if exit := new(gatewaypb.ExitError); errors.As(err, &exit) {
		if _, rest, ok := strings.Cut(message, `process "`); ok {
			if command, _, ok := strings.Cut(rest, `" did not complete`); ok {
				if plain, err := strconv.Unquote(`"` + command + `"`); err == nil {
					command = plain
				}
				message = fmt.Sprintf("The command '%s' returned a non-zero code: %d", command, exit.ExitCode)
			}
		}
		detail["message"], detail["code"] = message, exit.ExitCode
	}
	_ = m.write(map[string]any{"errorDetail": detail, "error": message})
}

func shortID(id string) string {
	_, digits, _ := strings.Cut(id, ":")
	return digits[:min(12, len(digits))]
}
