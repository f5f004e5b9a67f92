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
	// gRPC's own codec refuses strings that are not UTF-8, such as a client's file names.
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
	cacheBytes := flag.Int64("cache-size", 0, "bytes that the build cache may hold; 0: any, within half of what images' configurations may hold")
	contextBytes := flag.Int64("context-size", 32<<30, "bytes that a build context may hold, unpacked")
	memoryBytes := flag.Int64("memory", 0, "bytes of memory that builds may take together; 0: any")
	insecure := flag.String("insecure-registries", "", "registries that caches and images may be at without TLS, with commas between")
	supervised := flag.Bool("supervised", false, "end when standard input does: whoever holds its other end is gone")
	measured := flag.Bool("metrics", false, "count builds and their steps, for whoever asks")
	check := flag.Bool("check-database", false, "look at the database whose path is the argument, and end")
	flag.Parse()
	if *check {
		if err := cachefiles.Check(flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(cachefiles.ExitCode(err))
		}
		return
	}
	bklog.L.Logger.SetFormatter(&logrus.JSONFormatter{})
	exitWith(run(*address, *listen, *state, *memoryBytes, worker.Limits{
		CacheBytes: *cacheBytes, Context: worker.ContextLimits{Bytes: *contextBytes, Entries: maxContextEntries},
	}, strings.FieldsFunc(*insecure, func(r rune) bool { return r == ',' }), *supervised, *measured))
}

// exitWith exits the process on an error.
func exitWith(err error) {
	if err != nil {
		bklog.L.Error(err)
		os.Exit(1)
	}
}

// maxContextEntries is how many files, directories and links a build context may have.
const maxContextEntries = 1_000_000

func run(address, listen, state string, memoryBytes int64, limits worker.Limits, insecureRegistries []string, supervised, measured bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if supervised {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			// No backend is coming back: the next builder cleans up.
			os.Exit(1)
		}()
	}
	if err := boundData(memoryBytes); err != nil {
		return err
	}
	// A context is decompressed in this process, since a program blocked in a client's stream could not be stopped.
	os.Setenv("MOBY_DISABLE_PIGZ", "true")
	// Steps' files need exact modes; only the owner can enter the directory around them.
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
	if err := cachefiles.DropDamaged(ctx, state, []string{own, "--check-database"}, checkLimit); err != nil {
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
	serving, err := server.New(ctx, built, state, memoryBytes, measured)
	if err != nil {
		return err
	}
	defer serving.Close()
	if err := os.Remove(listen); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The socket is restricted to its owner from the start: its users can use the backend.
	syscall.Umask(0o177)
	listener, err := net.Listen("unix", listen)
	syscall.Umask(0)
	if err != nil {
		return err
	}
	defer os.Remove(listen)
	serving.StopServingBy(func() { listener.Close() })
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
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	<-ended
	return nil
}

// runtimeBytes is this process's memory apart from its builds.
const runtimeBytes = 256 << 20

// boundData makes the kernel limit this process, and each that it starts, to twice the builds' memory: the kernel also
// counts memory that was mapped once and is free again, while the server checks memory in use. A lower inherited limit
// stays.
func boundData(memoryBytes int64) error {
	var data syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &data); memoryBytes == 0 || err != nil {
		return err
	}
	bound := 2*uint64(memoryBytes) + runtimeBytes
	data.Cur, data.Max = min(data.Cur, bound), min(data.Max, bound)
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &data)
}

// leave ends the process after it has exceeded its memory, once clients have been told. It serves nobody from now on:
// the next build gets a new process.
func leave(web *http.Server, serving *server.Server) {
	ending, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	_ = web.Shutdown(ending)
	serving.WaitForClients(ending)
	exitWith(context.Cause(serving.OutOfMemory()))
}

// reportTimeout bounds the time for reporting to clients that the builder is out of memory, which keeps growing meanwhile.
const reportTimeout = 2 * time.Second

// lockTimeout bounds the wait for an orphaned builder's exit. The starter of a builder waits 30 seconds.
const lockTimeout = shutdownTimeout + 15*time.Second

// checkLimit bounds the time for checking the build cache's files, whose size nothing bounds. The starter of a builder waits
// 30 seconds.
const checkLimit = 10 * time.Second

// lockPoll is the interval of attempts to get another builder's lock.
const lockPoll = 20 * time.Millisecond

// lockDirectory locks a directory for this process while the returned file is open. It waits for another builder's end
// until the context ends.
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

// shutdownTimeout bounds how long cancelled builds may take to remove their containers.
const shutdownTimeout = 10 * time.Second
