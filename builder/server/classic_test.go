package server

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/buildkit/session/auth"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
	"github.com/sockerless/sockerless/builder/worker"
)

func serverOf(t *testing.T) (*Server, *backendtest.Backend) {
	t.Helper()
	fake, client := backendtest.Start(t)
	dir := t.TempDir()
	built, err := worker.New(context.Background(), client, dir, worker.Limits{Context: worker.ContextLimits{Bytes: 1 << 20, Entries: 100}}, nil)
	assert.NilError(t, err)
	t.Cleanup(func() { built.Close() })
	made, err := New(context.Background(), built, dir, 0, true)
	assert.NilError(t, err)
	t.Cleanup(func() { made.Close() })
	return made, fake
}

// A tar of one file, as others' programs compress it.
const (
	tarOfBzip2 = "QlpoOTFBWSZTWYpwrj4AADDbgMmAQABFgAAEayWeAAgIIABURDQAAZGgkimmTI9QDQRMv8lISK3ahpbKZRkDg2bidhEOiMCr" +
		"gjZgVQmDwtdM08i0moA+LuSKcKEhFOFcfA=="
	tarOfXz = "/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4An/AERdADMaSda2OCGvAe5uBXM7wPyAzzewSHXXbqSo/hdgBa5T3GsxIACRvOjd" +
		"MLsuHUSygu4l0pDdSmeuyMzZH5r7aEXMtwYAAOXdzzxVFwa1AAFggBQAAADdqzylscRn+wIAAAAABFla"
)

func decoded(t *testing.T, text string) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	assert.NilError(t, err)
	return data
}

func TestAContextMayBeCompressedAsDockerdTakesIt(t *testing.T) {
	s, _ := serverOf(t)
	plain, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(decoded(t, tarOfBzip2))))
	assert.NilError(t, err)
	compressed := func(make func(io.Writer) io.WriteCloser) []byte {
		var buffer bytes.Buffer
		writer := make(&buffer)
		_, err := writer.Write(plain)
		assert.NilError(t, err)
		assert.NilError(t, writer.Close())
		return buffer.Bytes()
	}
	for name, body := range map[string][]byte{
		"plain": plain, "bzip2": decoded(t, tarOfBzip2), "xz": decoded(t, tarOfXz),
		"gzip": compressed(func(to io.Writer) io.WriteCloser { return gzip.NewWriter(to) }),
		"zstd": compressed(func(to io.Writer) io.WriteCloser {
			writer, err := zstd.NewWriter(to)
			assert.NilError(t, err)
			return writer
		}),
	} {
		dir := t.TempDir()
		assert.Check(t, s.unpackBody(t.Context(), bytes.NewReader(body), dir), name)
		if content, err := os.ReadFile(filepath.Join(dir, "file")); string(content) != "content" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
}

func TestAClientThatLeavesBehindItsContextIsNoticed(t *testing.T) {
	s, _ := serverOf(t)
	var archive bytes.Buffer
	assert.NilError(t, tar.NewWriter(&archive).Close())
	unpacked, left, over := make(chan error, 1), make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		unpacked <- s.unpackBody(r.Context(), r.Body, t.TempDir())
		select {
		case <-r.Context().Done():
			close(left)
		case <-over:
		}
	}))
	defer server.Close()
	defer close(over)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	assert.NilError(t, err)
	_, err = fmt.Fprintf(conn, "POST /build HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", archive.Len(), archive.Bytes())
	assert.NilError(t, errors.Join(err, <-unpacked))
	_, err = io.WriteString(conn, "0\r\n\r\n")
	assert.NilError(t, err)
	conn.Close()
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Fatal("the build goes on")
	}
}

func TestAContextDemandsNoLargeWindow(t *testing.T) {
	s, _ := serverOf(t)
	inXz := decoded(t, strings.Replace(tarOfXz, "ARYAAAB0L+Wj", "ASQAAABeH8f5", 1))
	for name, start := range map[string][]byte{
		"1 GiB in xz":               inXz,
		"256 MiB":                   {0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3},
		"256 MiB behind a skipped":  {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0, 0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3},
		"a whole content of 16 GiB": {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 4, 0, 0, 0},
	} {
		err := s.unpackBody(t.Context(), bytes.NewReader(append(start, 3, 0, 16, 0)), t.TempDir())
		assert.Check(t, is.ErrorContains(err, "exceed"), name)
	}
}

func TestARegistrysTokenIsPassedOn(t *testing.T) {
	header := base64.URLEncoding.EncodeToString([]byte(
		`{"a.example": {"username": "who", "password": "", "identitytoken": "token"}, "b.example": {"username": "who", "password": "secret"}}`))
	known, err := readCredentials(header)
	assert.NilError(t, err)
	for host, want := range map[string][2]string{"a.example": {"", "token"}, "b.example": {"who", "secret"}, "c.example": {}} {
		got, err := known.Credentials(context.Background(), &auth.CredentialsRequest{Host: host})
		if err != nil || got.Username != want[0] || got.Secret != want[1] {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}

// countingBody records how many builds are running when a context is read.
type countingBody struct {
	server *Server
	during int
}

func (b *countingBody) Read([]byte) (int, error) {
	b.server.mu.Lock()
	defer b.server.mu.Unlock()
	b.during = b.server.building
	return 0, io.EOF
}

func TestABuildIsUnderWayBeforeItsContextIsThere(t *testing.T) {
	s, _ := serverOf(t)
	body := &countingBody{server: s}
	s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/build", body))
	if body.during != 1 || s.building != 0 {
		t.Errorf("%d builds while it was read, %d after", body.during, s.building)
	}
}

func TestLimitsAreThoseOfSteps(t *testing.T) {
	query := url.Values{
		"memory": {"1024"}, "memswap": {"-1"}, "cpushares": {"0"}, "cpuquota": {"many"}, "cpusetcpus": {"0-1"}, "cpusetmems": {""},
		"cgroupparent": {"/above"}, "ulimits": {`[{"Name":"nofile","Soft":1,"Hard":2},{"Name":"core","Soft":-1,"Hard":-1}]`},
	}
	got, err := limitsOf(query)
	wanted := map[string]string{
		"memory": "1024", "memswap": "-1", "cpusetcpus": "0-1", "cgroup-parent": "/above", "ulimit": "nofile=1:2,core=-1:-1",
	}
	if err != nil || !maps.Equal(got, wanted) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWrongParametersAreRefusedInDockerdsWords(t *testing.T) {
	for query, message := range map[string]string{
		"version=3":                             `invalid version "3"`,
		"shmsize=x":                             `strconv.ParseInt: parsing "x": invalid syntax`,
		"outputs=x":                             "invalid outputs specified: invalid character 'x' looking for beginning of value",
		"securityopt=a":                         "security options are not supported on linux",
		"isolation=hyperv":                      `unsupported isolation: "hyperv"`,
		"t=good&t=BAD":                          "invalid reference format: repository name (library/BAD) must be lowercase",
		"t=a,b":                                 "invalid reference format",
		"t=a@sha256:" + strings.Repeat("0", 64): "build tag cannot contain a digest",
		`ulimits=[{"Name":"x"}]`:                "invalid ulimit name x",
	} {
		values, err := url.ParseQuery(query)
		assert.NilError(t, err)
		_, err = solveRequest(values)
		if refusal := new(refused); !errors.As(err, &refusal) || *refusal != (refused{http.StatusBadRequest, message}) {
			t.Errorf("%s: %v", query, err)
		}
	}
	for _, query := range []string{"version=1", "version=2", "isolation=Default", "shmsize=0", "t=&t=a"} {
		values, err := url.ParseQuery(query)
		assert.NilError(t, err)
		if _, err = solveRequest(values); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}

func TestABooleanIsReadAsByDockerd(t *testing.T) {
	for text, want := range map[string]bool{"yes": true, " X": true, "1": true, "": false, "No": false, "none": false, " FALSE ": false, "0": false} {
		assert.Check(t, isSet(url.Values{"q": {text}}, "q") == want, "%q is not %v", text, want)
	}
}

// archived is a tar of these files.
func archived(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for name, content := range files {
		err := writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
		if _, writeErr := io.WriteString(writer, content); errors.Join(err, writeErr) != nil {
			t.Fatal(err, writeErr)
		}
	}
	assert.NilError(t, writer.Close())
	return archive.Bytes()
}

// built is what a classic build of these files answers.
func built(t *testing.T, s *Server, files map[string]string) string {
	t.Helper()
	answer := httptest.NewRecorder()
	s.build(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/build", bytes.NewReader(archived(t, files))))
	return answer.Body.String()
}

func TestPatternsThatTakeTooLongAreRefusedBeforeAnythingIsMatched(t *testing.T) {
	s, _ := serverOf(t)
	for name, each := range map[string]struct {
		files   map[string]string
		refusal string
	}{
		"of .dockerignore": {map[string]string{
			"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "a" + strings.Repeat("**/", 20_000) + "z\n",
		}, ".dockerignore: the patterns of files have 160000 wildcards"},
		"of one for the Dockerfile": {map[string]string{
			"Dockerfile": "FROM scratch\nCOPY . /\n", "Dockerfile.dockerignore": "a" + strings.Repeat("**/", 20_000) + "z\n",
		}, ".dockerignore: the patterns of files have 160000 wildcards"},
		"of a COPY": {map[string]string{
			"Dockerfile": "FROM scratch\nCOPY --exclude=a" + strings.Repeat("**/", 20_000) + "z . /\n", "file": "",
		}, "the patterns of files have 160000 wildcards"},
		"for a source of many directories": {map[string]string{
			"Dockerfile": "FROM scratch\nCOPY " + strings.Repeat("a/", 20_000) + "b /\n", ".dockerignore": "a**/**/z\n",
		}, "take too long to match with the 16 wildcards of .dockerignore"},
	} {
		if answer := built(t, s, each.files); !strings.Contains(answer, each.refusal) {
			t.Errorf("%s: %.2000s", name, answer)
		}
	}
}
