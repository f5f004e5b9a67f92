package containerinit

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/init/callback"
)

// settings are the agent's settings. Each flag has an environment variable, since
// a cloud lets a task override its environment more easily than its command; a
// flag wins.
type settings struct {
	containerID string
	prepared    bool              // it waits to be claimed by a container, whose ID is another
	listen      string            // empty: not at all
	joined      string            // address of a [callback.JoinedListener]; empty: none
	callback    *callbackSettings // nil: the agent waits to be dialled
	// resumeWithin is how long a connection may be cut that is called or joined; above 0.
	resumeWithin time.Duration
	pin          []byte // SHA-256 of the client CA's public key
	stopSignal   unix.Signal
	linger       time.Duration
	drain        time.Duration
	await        time.Duration // for the first start; 0: as long as it takes
	logDir       string
	log          log.Settings
}

// callbackSettings are for an agent that cannot be dialled.
type callbackSettings struct {
	url       *url.URL
	pingEvery time.Duration
	secret    string // empty: the platform has delivered none
	token     string // of the start; empty: the backend asks for no proof
}

const (
	defaultListen  = ":9111"
	defaultLinger  = time.Minute
	defaultDrain   = 20 * time.Second
	defaultLogDir  = "/.sockerless/log"
	defaultLogSize = 32 << 20
	defaultLogs    = 2
)

var containerIDForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}$`) })

func parseSettings(arguments []string, getenv func(string) string, output io.Writer) (*settings, error) {
	flags := flag.NewFlagSet("sockerless-agent init", flag.ContinueOnError)
	flags.SetOutput(output)
	text := func(name, env, fallback, usage string) *string {
		if value := getenv(env); value != "" {
			fallback = value
		}
		return flags.String(name, fallback, usage+" ("+env+")")
	}
	id := text("container-id", "SOCKERLESS_CONTAINER_ID", "", "full ID of the container, 64 hexadecimal digits")
	listen := text("listen", "SOCKERLESS_LISTEN", "", "TCP address to serve on; "+defaultListen+" unless there is a callback")
	joined := text("joined-listen", "SOCKERLESS_JOINED_LISTEN", "", "TCP address to serve on for a backend that comes by way of the platform, which may cut connections")
	callbackURL := text("callback-url", "SOCKERLESS_CALLBACK_URL", "", "where the backend waits for an agent that nobody can dial, https or wss")
	ping := text("callback-ping", "SOCKERLESS_CALLBACK_PING", callback.PingEvery.String(), "how often connections to there are pinged")
	resume := text("callback-resume", "SOCKERLESS_CALLBACK_RESUME", callback.ResumeWithin.String(), "how long a connection to a backend that is called, or joined, may be cut before it is given up")
	pin := text("client-ca-pin", "SOCKERLESS_CLIENT_CA_PIN", "", "sha256/BASE64 of the client CA's public key")
	signal := text("stop-signal", "SOCKERLESS_STOP_SIGNAL", "SIGTERM", "the container's own stop signal, name or number")
	linger := text("linger", "SOCKERLESS_LINGER", defaultLinger.String(), "how long to stay after the main process has exited")
	drain := text("drain-timeout", "SOCKERLESS_DRAIN_TIMEOUT", defaultDrain.String(), "how long to wait at most for who has not read everything")
	await := text("start-timeout", "SOCKERLESS_START_TIMEOUT", "0", "how long to wait for the first start; 0: as long as it takes")
	// No variable: an image must not choose where root writes.
	logDir := flags.String("log-dir", defaultLogDir, "directory of the output's record; empty or not writable: memory")
	logSize := text("log-max-size", "SOCKERLESS_LOG_MAX_SIZE", strconv.Itoa(defaultLogSize), "bytes of one file of the record")
	logFiles := text("log-max-files", "SOCKERLESS_LOG_MAX_FILES", strconv.Itoa(defaultLogs), "files of the record")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}

	// Only from the environment, as a request for a task has it.
	s := &settings{containerID: *id, prepared: getenv("SOCKERLESS_PREPARED") != "", listen: *listen, joined: *joined, logDir: *logDir}
	var errs [9]error
	if *callbackURL == "" && s.joined == "" && s.listen == "" {
		s.listen = defaultListen
	}
	if !containerIDForm().MatchString(s.containerID) {
		errs[0] = fmt.Errorf("container ID %q: 64 hexadecimal digits are wanted", s.containerID)
	}
	s.pin, errs[1] = parsePin(*pin)
	s.stopSignal, errs[2] = parseSignal(*signal)
	s.linger, errs[3] = parseDuration("linger", *linger)
	s.drain, errs[4] = parseDuration("drain timeout", *drain)
	s.log, errs[5] = parseLog(*logSize, *logFiles)
	s.await, errs[6] = parseDuration("start timeout", *await)
	s.resumeWithin, errs[8] = parseResume(*resume)
	if *callbackURL != "" {
		s.callback, errs[7] = parseCallback(*callbackURL, *ping, getenv("SOCKERLESS_CALLBACK_SECRET"), getenv("SOCKERLESS_CALLBACK_TOKEN"))
	}
	return s, errors.Join(errs[:]...)
}

// parseCallback takes the secret and the token only from the environment, since
// everybody can read a command line.
func parseCallback(text, ping, secret, token string) (*callbackSettings, error) {
	where, err := url.Parse(text)
	if err != nil || where.Scheme != "https" && where.Scheme != "wss" || where.Host == "" || where.User != nil {
		return nil, fmt.Errorf("callback URL %q: an https or wss URL is wanted", text)
	}
	where.Scheme = "https"
	every, err := parseDuration("callback ping", ping)
	if err == nil && every == 0 {
		err = errors.New("callback ping: a time above 0 is wanted")
	}
	return &callbackSettings{url: where, pingEvery: every, secret: secret, token: token}, err
}

func parseResume(text string) (time.Duration, error) {
	within, err := parseDuration("callback resume", text)
	if err == nil && within == 0 {
		err = errors.New("callback resume: a time above 0 is wanted")
	}
	return within, err
}

func parsePin(text string) ([]byte, error) {
	encoded, found := strings.CutPrefix(text, "sha256/")
	pin, err := base64.StdEncoding.DecodeString(encoded)
	if !found || err != nil || len(pin) != 32 {
		return nil, fmt.Errorf("client CA pin %q: sha256/ and 32 bytes in base64 are wanted", text)
	}
	return pin, nil
}

func parseSignal(text string) (unix.Signal, error) {
	if number, err := strconv.Atoi(text); err == nil && number >= 1 && number <= 64 {
		return unix.Signal(number), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if signal := unix.SignalNum(name); signal != 0 {
		return signal, nil
	}
	if offset, found := strings.CutPrefix(name, "SIGRTMIN"); found {
		if number, err := strconv.Atoi("0" + strings.TrimPrefix(offset, "+")); err == nil && realTimeMin+number <= realTimeMax {
			return unix.Signal(realTimeMin + number), nil
		}
	}
	if offset, found := strings.CutPrefix(name, "SIGRTMAX"); found {
		if number, err := strconv.Atoi("0" + strings.TrimPrefix(offset, "-")); err == nil && realTimeMax-number >= realTimeMin {
			return unix.Signal(realTimeMax - number), nil
		}
	}
	return 0, fmt.Errorf("unknown stop signal %q", text)
}

// The real-time signals as C libraries and Docker count them: the libraries
// reserve the first two.
const (
	realTimeMin = 34
	realTimeMax = 64
)

func parseDuration(what, text string) (time.Duration, error) {
	duration, err := time.ParseDuration(text)
	if seconds, numeric := strconv.Atoi(text); numeric == nil {
		duration, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || duration < 0 || duration > 7*24*time.Hour {
		return 0, fmt.Errorf("%s %q: a duration such as 60s, at most a week, is wanted", what, text)
	}
	return duration, nil
}

func parseLog(size, files string) (log.Settings, error) {
	bytes, err := strconv.ParseUint(size, 10, 63)
	if err != nil || bytes == 0 {
		return log.Settings{}, fmt.Errorf("log size %q: a number of bytes above 0 is wanted", size)
	}
	count, err := strconv.ParseUint(files, 10, 16)
	if err != nil || count == 0 {
		return log.Settings{}, fmt.Errorf("log files %q: a number above 0 is wanted", files)
	}
	return log.Settings{MaxSize: bytes, MaxFiles: uint32(count)}, nil
}
