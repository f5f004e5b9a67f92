package containerinit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/sockerless/sockerless/agent/init/callback"
)

const (
	exitUnreached = 1
	// callWithin is how long a call is tried again, and callPause the pause between:
	// a network may be ready a little later than its container.
	callWithin = 15 * time.Second
	callPause  = time.Second
)

// Call is `sockerless-agent call`: it calls the backend as an agent does, with the
// settings of `init`. Exit code 0: the backend has answered.
func Call(arguments []string) int {
	logger := slog.New(slog.NewTextHandler(markedWriter{os.Stderr, agentMark}, nil))
	settings, err := parseSettings(arguments, os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil && settings.callback == nil {
		err = errors.New("SOCKERLESS_CALLBACK_URL is not set")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sockerless-agent call:", err)
		return exitUsage
	}
	certificate, err := newCertificate(settings.containerID, time.Now())
	if err == nil {
		err = callUntilReached(func(ctx context.Context) error {
			return callback.Try(ctx, callback.Options{URL: settings.callback.url, Instance: settings.pin, ContainerID: settings.containerID,
				Certificate: certificate, PingEvery: settings.callback.pingEvery, ResumeWithin: settings.resumeWithin})
		})
	}
	if err != nil {
		logger.Error("the backend is not reached", "url", settings.callback.url.Redacted(), "error", err)
		return exitUnreached
	}
	return 0
}

// Reach is `sockerless-agent reach HOST:PORT`: it opens a TCP connection. Exit code
// 0: it has opened.
func Reach(arguments []string) int {
	if len(arguments) != 1 {
		fmt.Fprintln(os.Stderr, "usage: sockerless-agent reach HOST:PORT")
		return exitUsage
	}
	err := callUntilReached(func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", arguments[0])
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "sockerless-agent reach:", err)
		return exitUnreached
	}
	return 0
}

// callUntilReached returns the last failure once the time is over.
func callUntilReached(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), callWithin)
	defer cancel()
	for {
		err := call(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(callPause):
		case <-ctx.Done():
			return err
		}
	}
}
