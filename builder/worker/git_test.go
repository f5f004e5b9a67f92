package worker

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/source/git"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// workerOfGit is a worker with its own git proxy.
func workerOfGit(t *testing.T, limits ContextLimits) *Worker {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH"))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	w := workerOfContexts(t, limits)
	w.programs = t.TempDir()
	var err error
	if w.gitProxy, err = startGitProxy(machineProxy, limits.Bytes+1<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.gitProxy.close() })
	if w.git, err = newGitSource(w); err != nil {
		t.Fatal(err)
	}
	return w
}

// machinesGit is git without a builder's limits.
var machinesGit, _ = exec.LookPath("git")

// repository is a git repository of files by name, with its server.
func repository(t *testing.T, files map[string]string) (address string) {
	t.Helper()
	return repositoryOf(t, files, "all")
}

// repositoryOf is a repository whose commit has a message.
func repositoryOf(t *testing.T, files map[string]string, message string) (address string) {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) string {
		command := exec.Command(machinesGit, args...)
		command.Dir = dir
		command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, output)
		}
		return strings.TrimSpace(string(output))
	}
	run("init", "--initial-branch=main", ".")
	for name, content := range files {
		assert.NilError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		write(t, dir, name, content)
	}
	run("add", "--all")
	file := filepath.Join(t.TempDir(), "message")
	assert.NilError(t, os.WriteFile(file, []byte(message), 0o600))
	run("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--cleanup=verbatim", "--file="+file)
	run("update-server-info")
	mux := nethttp.NewServeMux()
	mux.Handle("/repository.git/", &cgi.Handler{
		Path: filepath.Join(run("--exec-path"), "git-http-backend"), Root: "/repository.git",
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(dir, ".git"), "GIT_HTTP_EXPORT_ALL=1"},
	})
	mux.HandleFunc("/away.git/", func(w nethttp.ResponseWriter, r *nethttp.Request) {
		nethttp.Redirect(w, r, "http://169.254.169.254/latest/meta-data", nethttp.StatusFound)
	})
	hook := filepath.Join(t.TempDir(), "hook")
	assert.NilError(t, os.WriteFile(hook, []byte("#!/bin/sh\nhead -c 1048576 /dev/zero | tr '\\000' x >&2\nexit 1\n"), 0o700))
	mux.Handle("/talkative.git/", &cgi.Handler{
		Path: filepath.Join(run("--exec-path"), "git-http-backend"), Root: "/talkative.git",
		Env: []string{
			"GIT_PROJECT_ROOT=" + filepath.Join(dir, ".git"), "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=uploadpack.packObjectsHook", "GIT_CONFIG_VALUE_0=" + hook,
		},
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func nothingLeft(t *testing.T, w *Worker) {
	t.Helper()
	if left, err := os.ReadDir(w.contexts.root); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestARepositoryIsCheckedOutWithinTheLimitsOfContexts(t *testing.T) {
	address := repository(t, map[string]string{"dir/file": "in dir", "large": strings.Repeat("x", 2000)})
	for remote, want := range map[string]string{
		address + "/repository.git#main:dir": "file", address + "/repository.git": "dir/file", address + "/repository.git#refs/heads/main": "dir/file",
	} {
		w := workerOfGit(t, wide)
		dir, done, err := w.CheckOut(context.Background(), remote)
		assert.NilError(t, err)
		if content, err := os.ReadFile(filepath.Join(dir, want)); err != nil || string(content) != "in dir" {
			t.Errorf("%s: %q, %v", remote, content, err)
		}
		assert.Check(t, done())
		nothingLeft(t, w)
	}
	for refusal, limits := range map[string]ContextLimits{
		"the git repository is larger than 1000 bytes": {Bytes: 1000, Entries: 1000},
		"the git repository has more than 3 entries":   {Bytes: 1 << 20, Entries: 3},
	} {
		w := workerOfGit(t, limits)
		if _, _, err := w.CheckOut(context.Background(), address+"/repository.git"); err == nil || !strings.Contains(err.Error(), refusal) {
			t.Errorf("%v instead of %q", err, refusal)
		}
		nothingLeft(t, w)
	}
	w := workerOfGit(t, wide)
	_, _, err := w.CheckOut(context.Background(), address+"/repository.git#other")
	assert.Check(t, is.ErrorContains(err, "does not contain ref other"), "a branch that is not there")
	nothingLeft(t, w)
	if dir, _, err := w.CheckOut(context.Background(), "http://files.example/context.tar"); dir != "" || err != nil {
		t.Errorf("a file is taken for a repository: %q, %v", dir, err)
	}
}

func TestWhatARemoteNamesIsNoPathAndNoOptionOfGit(t *testing.T) {
	for remote, want := range map[string]git.GitIdentifier{
		"github.com/who/repo#main:dir": {Remote: "https://github.com/who/repo", Ref: "main", Subdir: "dir"},
		"https://files.example/a.git?branch=main&commit=0123456&fetch-by-commit=1&submodules=0&keep-git-dir": {
			Remote: "https://files.example/a.git", Ref: "refs/heads/main", Checksum: "0123456", FetchByCommit: true, SkipSubmodules: true, KeepGitDir: true,
		},
		"git@files.example:a.git": {Remote: "git@files.example:a.git"},
	} {
		reference, _, err := dfgitutil.ParseGitRef(remote)
		assert.NilError(t, err)
		if id, err := gitIdentifier(reference); err != nil || !reflect.DeepEqual(*id, want) {
			t.Errorf("%s: %+v, %v", remote, id, err)
		}
	}
	w := workerOfGit(t, wide)
	_, _, err := w.CheckOut(context.Background(), "http://127.0.0.1:1/a.git#--upload-pack=x")
	assert.Check(t, is.ErrorContains(err, "invalid git ref"), "a ref that is an option")
	nothingLeft(t, w)
}

func TestGitIsEndedWhenWhatItWritesIsTooLarge(t *testing.T) {
	for refusal, files := range map[string]map[string]string{
		"the git repository is larger than 1000 bytes": {"large": strings.Repeat("x", 2000)},
		"the git repository has more than 3 entries":   {"a": "", "b": "", "c": "", "d": ""},
	} {
		w, _ := workerOf(t)
		ctx, end := watchCheckouts(context.Background(), ContextLimits{Bytes: 1000, Entries: 3}, gitSilence)
		made, err := (&checkouts{&manager{Worker: w}}).New(ctx, nil, nil)
		assert.NilError(t, err)
		for name, content := range files {
			write(t, made.(*checkout).context.path, name, content)
		}
		<-ctx.Done()
		if err := end(ctx.Err()); err == nil || !strings.Contains(err.Error(), refusal) {
			t.Errorf("%v instead of %q", err, refusal)
		}
		assert.Check(t, made.Release(context.Background()))
	}
	ctx, end := watchCheckouts(context.Background(), wide, gitSilence)
	if err := end(nil); err != nil || ctx.Err() == nil {
		t.Errorf("answered %v", err)
	}
	if err := end(errors.New("other")); err == nil || err.Error() != "other" {
		t.Errorf("answered %v", err)
	}
}

func TestTheObjectsOfARepositoryAreAnsweredUpToABound(t *testing.T) {
	w := workerOfGit(t, wide)
	objectOf := func(message string) (string, error) {
		id := &git.GitIdentifier{Remote: repositoryOf(t, map[string]string{"file": "x"}, message) + "/repository.git", Ref: "main"}
		known, err := w.git.ResolveMetadata(t.Context(), id, nil, nil, git.MetadataOpts{ReturnObject: true})
		if err != nil {
			return "", err
		}
		return string(known.CommitObject), nil
	}
	if object, err := objectOf("small"); err != nil || !strings.HasSuffix(object, "\n\nsmall") {
		t.Errorf("%q, %v", object, err)
	}
	if object, err := objectOf(strings.Repeat("x", maxPrintingGit<<10)); err == nil || !strings.Contains(err.Error(), "ut of memory") {
		t.Errorf("%d bytes, %v", len(object), err)
	}
	nothingLeft(t, w)
}

func TestWhatAServerHasGitSayIsKeptUpToABound(t *testing.T) {
	w := workerOfGit(t, wide)
	_, _, err := w.CheckOut(context.Background(), repository(t, map[string]string{"file": "x"})+"/talkative.git#main")
	if err == nil || !strings.Contains(err.Error(), "remote: xxxx") || len(err.Error()) > 2*maxGitStderr {
		t.Errorf("%d bytes: %.200v", len(fmt.Sprint(err)), err)
	}
	nothingLeft(t, w)
	if left, err := os.ReadDir(w.programs); err != nil || len(left) != 2 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestGitAsksNoMetadataService(t *testing.T) {
	w := workerOfGit(t, wide)
	for _, remote := range []string{
		"http://169.254.169.254/latest.git", "https://[fd00:ec2::254]/latest.git", "git://169.254.169.254:80/latest", "ssh://git@169.254.169.254:80/latest",
		"git@169.254.169.254:latest.git", "http://2852039166/latest.git",
	} {
		_, _, err := w.CheckOut(context.Background(), remote)
		assert.Check(t, is.ErrorContains(err, "of a metadata service"), remote)
	}
	remote := repository(t, map[string]string{"file": "x"}) + "/away.git"
	_, _, err := w.CheckOut(context.Background(), remote)
	assert.Check(t, is.ErrorContains(err, "403"), "a redirect to one")
	for _, address := range []string{"169.254.169.254:443", "[fd00:ec2::254]:443"} {
		_, err := w.gitProxy.connect(context.Background(), address)
		assert.Check(t, is.ErrorContains(err, "of a metadata service"), "a tunnel to %s", address)
	}
	nothingLeft(t, w)
}

func TestTheProxyOfGitIsItsBuildersAlone(t *testing.T) {
	w := workerOfGit(t, wide)
	for _, password := range []string{"", "wrong"} {
		request := httptest.NewRequest(nethttp.MethodGet, "http://127.0.0.1:1/", nil)
		request.Header.Set("Proxy-Authorization", "Basic "+password)
		answer := httptest.NewRecorder()
		w.gitProxy.ServeHTTP(answer, request)
		if answer.Code != nethttp.StatusProxyAuthRequired {
			t.Errorf("answered %d", answer.Code)
		}
	}
}

func TestStrangersAtTheProxyOfGitAreBounded(t *testing.T) {
	w := workerOfGit(t, wide)
	server := httptest.NewServer(nethttp.HandlerFunc(func(nethttp.ResponseWriter, *nethttp.Request) {}))
	defer server.Close()
	proxy, err := url.Parse(os.Getenv("HTTP_PROXY"))
	must(t, err)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", proxy.Host)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		return conn
	}
	ask := func(conn net.Conn, header nethttp.Header) int {
		request, err := nethttp.NewRequest(nethttp.MethodGet, server.URL, nil)
		must(t, err)
		request.Header = header
		must(t, request.WriteProxy(conn))
		answer, err := nethttp.ReadResponse(bufio.NewReader(conn), request)
		must(t, err)
		_, err = io.Copy(io.Discard, answer.Body)
		must(t, err)
		return answer.StatusCode
	}
	login := nethttp.Header{"Proxy-Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("git:"+w.gitProxy.password))}}
	known := dial()
	if code := ask(known, login); code != nethttp.StatusOK {
		t.Errorf("with the password: %d", code)
	}
	first, second := dial(), dial()
	for _, conn := range []net.Conn{first, second} {
		if code := ask(conn, nil); code != nethttp.StatusProxyAuthRequired {
			t.Errorf("without the password: %d", code)
		}
	}
	for range maxStrangers - 1 {
		dial()
	}
	if _, err := first.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the oldest of too many: %v", err)
	}
	if code := ask(second, nil); code != nethttp.StatusProxyAuthRequired {
		t.Errorf("the oldest but one: %d", code)
	}
	if code := ask(known, login); code != nethttp.StatusOK {
		t.Errorf("with the password, beside strangers: %d", code)
	}
	if code := ask(dial(), nethttp.Header{"Long": {strings.Repeat("x", 2*maxProxyHeader)}}); code != nethttp.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long header: %d", code)
	}
}

func TestTheProxyOfGitPassesOnWhatIsAnsweredBeforeTheRequestIsRead(t *testing.T) {
	workerOfGit(t, wide)
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		control := nethttp.NewResponseController(w)
		assert.Check(t, errors.Join(control.EnableFullDuplex(), control.Flush()))
		_, err := io.Copy(w, r.Body)
		assert.Check(t, err)
	}))
	defer server.Close()
	defer server.CloseClientConnections() // One that waits for its request would hold the end up.
	proxy, err := url.Parse(os.Getenv("HTTP_PROXY"))
	assert.NilError(t, err)
	client := &nethttp.Client{Transport: &nethttp.Transport{Proxy: nethttp.ProxyURL(proxy)}, Timeout: 20 * time.Second}
	body, rest := io.Pipe()
	go rest.Write([]byte("begun, "))
	response, err := client.Post(server.URL, "text/plain", body)
	assert.NilError(t, err)
	defer response.Body.Close()
	go func() {
		rest.Write([]byte("ended"))
		rest.Close()
	}()
	if told, err := io.ReadAll(response.Body); err != nil || string(told) != "begun, ended" {
		t.Fatalf("%q, %v", told, err)
	}
}

func TestTheProxyOfGitTunnelsByTheMachinesOwn(t *testing.T) {
	server := httptest.NewTLSServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, _ *nethttp.Request) { io.WriteString(w, "content") }))
	defer server.Close()
	own := func() *url.URL {
		address, err := url.Parse(os.Getenv("HTTPS_PROXY"))
		assert.NilError(t, err)
		return address
	}
	workerOfGit(t, wide)
	registry := &nethttp.Request{URL: &url.URL{Scheme: "https", Host: "registry.example"}}
	if through, err := nethttp.ProxyFromEnvironment(registry); err != nil || (through != nil && through.String() == os.Getenv("HTTPS_PROXY")) {
		t.Errorf("registries are asked by git's: %v", err)
	}
	// Go itself uses no proxy for this machine.
	machines := own()
	for range 2 {
		client := server.Client()
		client.Transport.(*nethttp.Transport).Proxy = nethttp.ProxyURL(own())
		response, err := client.Get(server.URL)
		assert.NilError(t, err)
		defer response.Body.Close()
		if got, err := io.ReadAll(response.Body); err != nil || string(got) != "content" {
			t.Errorf("%q, %v", got, err)
		}
		client.CloseIdleConnections()
		over, err := startGitProxy(nethttp.ProxyURL(machines), 1<<20)
		assert.NilError(t, err)
		defer over.close()
	}
}

func TestBundlesOfRepositoriesAreRefused(t *testing.T) {
	if err := allowGit(&git.GitIdentifier{Remote: "https://files.example/a.git", Bundle: "oci-layout+blob://x"}); err == nil {
		t.Error("allowed")
	}
}

func TestALargeFileOfARepositoryIsStreamed(t *testing.T) {
	const size = maxGitMemory << 10 / 10 * 11
	address := repository(t, map[string]string{"large": strings.Repeat("\x00", size)})
	w := workerOfGit(t, ContextLimits{Bytes: 4 * size, Entries: 1000})
	dir, done, err := w.CheckOut(t.Context(), address+"/repository.git")
	must(t, err)
	if info, err := os.Stat(filepath.Join(dir, "large")); err != nil || info.Size() != size {
		t.Errorf("%v, %v", info, err)
	}
	must(t, done())
	nothingLeft(t, w)
}

func TestAnyGitHasABoundOfItsMemory(t *testing.T) {
	workerOfGit(t, wide)
	config := exec.Command("git", "config", "--global", "--list")
	listed, err := config.Output()
	if err != nil || !strings.Contains(string(listed), "core.bigfilethreshold=1m\n") {
		t.Errorf("%s, %v", listed, err)
	}
	shown, err := exec.Command("git", "-c", "alias.limit=!ulimit -d", "limit").Output()
	if bound := fmt.Sprintf("%d\n", maxGitMemory); err != nil || string(shown) != bound {
		t.Errorf("%s, %v", shown, err)
	}
}

// stallingServer accepts connections and never answers. It tells of each, and ends them when the test does.
func stallingServer(t *testing.T) (address string, asked chan net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	asked = make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			asked <- conn
		}
	}()
	return "git://" + listener.Addr().String(), asked
}

func TestAServerThatStallsIsNotWaitedForForLong(t *testing.T) {
	address, _ := stallingServer(t)
	w := workerOfGit(t, wide)
	w.git.silence = 100 * time.Millisecond
	_, _, err := w.CheckOut(t.Context(), address+"/a.git")
	assert.Check(t, is.ErrorContains(err, "nothing has come of the git repository for 100ms"))
	nothingLeft(t, w)
}

func TestSoManyRepositoriesAreFetchedAtOnce(t *testing.T) {
	address, asked := stallingServer(t)
	w := workerOfGit(t, wide)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error)
	fetch := func(ctx context.Context, name string) {
		_, _, err := w.CheckOut(ctx, fmt.Sprintf("%s/%s.git", address, name))
		ended <- err
	}
	for at := range maxGits {
		go fetch(ctx, fmt.Sprintf("of-%d", at))
	}
	var conns []net.Conn
	for range maxGits {
		conns = append(conns, <-asked)
	}
	// Those who wait leave with their builds, whether for a turn or for the remote.
	leaving, leave := context.WithCancelCause(t.Context())
	for _, name := range []string{"other", "of-0"} {
		go fetch(leaving, name)
	}
	left := errors.New("the build is cancelled")
	leave(left)
	for range 2 {
		assert.Check(t, is.ErrorIs(<-ended, left))
	}
	// One that ends lets the next begin.
	go fetch(ctx, "last")
	select {
	case <-asked:
		t.Fatal("more are fetched")
	case <-time.After(300 * time.Millisecond):
	}
	must(t, conns[0].Close())
	if err := <-ended; err == nil {
		t.Error("a server that hangs up answered")
	}
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Error("the next has not begun")
	}
	cancel(left)
	for range maxGits {
		assert.Check(t, is.ErrorIs(<-ended, left))
	}
	assert.Check(t, len(asked) == 0, "%d more were asked", len(asked))
	nothingLeft(t, w)
}

func TestAClientHasNotAllTurnsOfGit(t *testing.T) {
	w := workerOfGit(t, wide)
	take := func(ctx context.Context, remote, client string) (func(), error) {
		return w.git.turns.take(ctx, remote, &job{session: client})
	}
	for at := range maxClientGits {
		leave, err := take(t.Context(), fmt.Sprint(at), "one")
		must(t, err)
		defer leave()
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := take(soon, "more", "one")
	assert.Check(t, is.ErrorIs(err, context.DeadlineExceeded))
	leave, err := take(t.Context(), "other", "two")
	must(t, err)
	leave()
}
