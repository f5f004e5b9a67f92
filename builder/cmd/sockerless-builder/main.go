// Command sockerless-builder builds images on a backend of sockerless: BuildKit over its containers and images.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/moby/buildkit/util/bklog"
	// A client's file names may be no UTF-8, which the codec of gRPC's own refuses.
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto"
	"github.com/sirupsen/logrus"

	"github.com/sockerless/sockerless/builder/backend"
	"github.com/sockerless/sockerless/builder/cachefiles"
	"github.com/sockerless/sockerless/builder/server"
	"github.com/sockerless/sockerless/builder/worker"
)

func main() {
	address := flag.String("backend-address", "", "the backend's socket, unix:///path")
	listen := flag.String("listen", "", "path of the socket to serve on")
	state := flag.String("state-dir", "", "directory of the build cache's records")
	cacheBytes := flag.Int64("cache-size", 0, "bytes that the build cache may hold; 0: any")
	contextBytes := flag.Int64("context-size", 32<<30, "bytes that a build context may hold, unpacked")
	memoryBytes := flag.Int64("memory", 0, "bytes of memory that builds may take together; 0: any")
	insecure := flag.String("insecure-registries", "", "registries that caches and images may be at without TLS, with commas between")
	supervised := flag.Bool("supervised", false, "end when standard input does: whoever holds its other end is gone")
	check := flag.Bool("check-database", false, "look at the database whose path is the argument, and end")
	flag.Parse()
	if *check {
		if err := cachefiles.Check(flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	bklog.L.Logger.SetFormatter(&logrus.JSONFormatter{})
	exitWith(run(*address, *listen, *state, *memoryBytes, worker.Limits{
		CacheBytes: *cacheBytes, Context: worker.ContextLimits{Bytes: *contextBytes, Entries: maxContextEntries},
	}, strings.FieldsFunc(*insecure, func(r rune) bool { return r == ',' }), *supervised))
}

// exitWith ends the process where there is an error.
func exitWith(err error) {
	if err != nil {
		bklog.L.Error(err)
		os.Exit(1)
	}
}

// maxContextEntries is how many files, directories and links a build context may have.
const maxContextEntries = 1_000_000

func run(address, listen, state string, memoryBytes int64, limits worker.Limits, insecureRegistries []string, supervised bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if supervised {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			// No backend comes back for it: the next builder clears away.
			os.Exit(1)
		}()
	}
	if err := boundData(memoryBytes); err != nil {
		return err
	}
	// A context is inflated in this process: a program that is stuck in a client's stream cannot be ended.
	os.Setenv("MOBY_DISABLE_PIGZ", "true")
	// Files of steps have the modes that they ask for; the directory around them is the owner's alone.
	syscall.Umask(0)
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	locking, cancel := context.WithTimeout(ctx, lockTimeout)
	lock, err := lockDirectory(locking, state)
	cancel()
	if err != nil {
		return err
	}
	defer lock.Close()
	own, err := os.Executable()
	if err != nil {
		return err
	}
	if err := cachefiles.DropDamaged(ctx, state, []string{own, "--check-database"}); err != nil {
		return err
	}
	client, err := backend.Dial(address)
	if err != nil {
		return err
	}
	built, err := worker.New(ctx, client, state, limits, insecureRegistries)
	if err != nil {
		return err
	}
	defer built.Close()
	serving, err := server.New(ctx, built, state, memoryBytes)
	if err != nil {
		return err
	}
	defer serving.Close()
	if err := os.Remove(listen); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The socket is its owner's alone from its first moment: whoever may use it may use the backend.
	syscall.Umask(0o177)
	listener, err := net.Listen("unix", listen)
	syscall.Umask(0)
	if err != nil {
		return err
	}
	defer os.Remove(listen)
	web := &http.Server{Handler: givingBack(serving, debug.FreeOSMemory), ReadHeaderTimeout: 30 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-serving.OutOfMemory().Done():
			leave(web, serving)
		case <-ctx.Done():
		}
		ending, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if web.Shutdown(ending) != nil {
			web.Close()
		}
	}()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-ended
	return nil
}

// runtimeBytes is what this process may take beside its builds.
const runtimeBytes = 256 << 20

// boundData has the kernel refuse this process, and each that it starts, more than twice the memory that builds have: it
// counts what was mapped once and is free again, while the server looks at what is in use. A lower bound that the process was
// started with stays.
func boundData(memoryBytes int64) error {
	var data syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &data); memoryBytes == 0 || err != nil {
		return err
	}
	bound := 2*uint64(memoryBytes) + runtimeBytes
	data.Cur, data.Max = min(data.Cur, bound), min(data.Max, bound)
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &data)
}

// leave ends the process, whose memory is exceeded, when clients have heard it. Nobody is served any more from its beginning
// on: the next build has another.
func leave(web *http.Server, serving *server.Server) {
	ending, cancel := context.WithTimeout(context.Background(), tellingTimeout)
	defer cancel()
	_ = web.Shutdown(ending)
	serving.WaitForClients(ending)
	exitWith(context.Cause(serving.OutOfMemory()))
}

// tellingTimeout is how long clients have for hearing that the builder ends for want of memory, which grows meanwhile.
const tellingTimeout = 2 * time.Second

// lockTimeout is how long a builder that was left without its supervisor may take to end. Whoever starts a builder gives it
// 30 seconds.
const lockTimeout = shutdownTimeout + 15*time.Second

// lockPoll is how often a lock that another builder has is asked for.
const lockPoll = 20 * time.Millisecond

// lockDirectory makes a directory this process's alone, for as long as the file that is answered is open. Another
// builder's end is waited for until the context ends.
func lockDirectory(ctx context.Context, directory string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(directory, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			lock.Close()
			return nil, fmt.Errorf("%s is in use by another builder: %w", directory, err)
		}
	}
}

// shutdownTimeout is how long builds that were told to end may take to remove their containers.
const shutdownTimeout = 10 * time.Second
