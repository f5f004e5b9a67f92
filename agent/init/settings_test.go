package containerinit

import (
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

var (
	someID  = strings.Repeat("ab", 32)
	somePin = "sha256/" + strings.Repeat("A", 43) + "="
)

func TestFlagsWinOverTheEnvironmentAndBothOverDefaults(t *testing.T) {
	env := map[string]string{
		"SOCKERLESS_CONTAINER_ID": someID, "SOCKERLESS_CLIENT_CA_PIN": somePin, "SOCKERLESS_LINGER": "5m", "SOCKERLESS_STOP_SIGNAL": "quit",
		"SOCKERLESS_START_TIMEOUT": "420s",
	}
	s, err := parseSettings([]string{"--linger", "90", "--log-max-size", "1000"}, func(name string) string { return env[name] }, io.Discard)
	assert.NilError(t, err)
	if s.containerID != someID || len(s.pin) != 32 || s.linger != 90*time.Second || s.stopSignal != unix.SIGQUIT || s.await != 7*time.Minute ||
		s.listen != ":9111" || s.drain != 20*time.Second || s.logDir != "/.sockerless/log" || s.log.MaxSize != 1000 || s.log.MaxFiles != 2 {
		t.Errorf("%+v", s)
	}
}

func TestAbsurdSettingsAreAllNamed(t *testing.T) {
	_, err := parseSettings([]string{"--container-id", "x", "--client-ca-pin", "md5/x", "--stop-signal", "SIGNONE", "--linger", "-1s",
		"--drain-timeout", "never", "--start-timeout", "soon", "--log-max-size", "0"}, func(string) string { return "" }, io.Discard)
	assert.Assert(t, err != nil, "they were taken")
	for _, name := range []string{"container ID", "client CA pin", "stop signal", "linger", "drain timeout", "start timeout", "log size"} {
		assert.Check(t, strings.Contains(err.Error(), name), "%q is not named in %v", name, err)
	}
}

func TestACallbackTakesThePlaceOfListening(t *testing.T) {
	env := map[string]string{"SOCKERLESS_CONTAINER_ID": someID, "SOCKERLESS_CLIENT_CA_PIN": somePin,
		"SOCKERLESS_CALLBACK_URL": "wss://backend.example:8443/agents", "SOCKERLESS_CALLBACK_SECRET": "once", "SOCKERLESS_CALLBACK_TOKEN": "7.it"}
	parse := func(arguments ...string) (*settings, error) {
		return parseSettings(arguments, func(name string) string { return env[name] }, io.Discard)
	}
	s, err := parse()
	assert.NilError(t, err)
	if s.listen != "" || s.callback.url.String() != "https://backend.example:8443/agents" || s.callback.secret != "once" || s.callback.token != "7.it" || s.callback.pingEvery != 20*time.Second {
		t.Errorf("%q, %+v", s.listen, s.callback)
	}
	if s, err := parse("--listen", ":1"); err != nil || s.listen != ":1" {
		t.Errorf("both: %v", err)
	}
	for _, url := range []string{"http://backend.example", "backend.example", "https://", "https://user@backend.example"} {
		_, err := parse("--callback-url", url)
		assert.Check(t, is.ErrorContains(err, "callback URL"), url)
	}
	if _, err := parse("--callback-ping", "0"); err == nil {
		t.Error("no pings at all are taken")
	}
	delete(env, "SOCKERLESS_CALLBACK_SECRET")
	if s, err := parse(); err != nil || s.callback.secret != "" {
		t.Errorf("without a secret: %v", err)
	}
}

func TestABackendThatComesByThePlatformTakesThePlaceOfListening(t *testing.T) {
	env := map[string]string{"SOCKERLESS_CONTAINER_ID": someID, "SOCKERLESS_CLIENT_CA_PIN": somePin, "SOCKERLESS_JOINED_LISTEN": "127.0.0.1:9111"}
	parse := func(arguments ...string) (*settings, error) {
		return parseSettings(arguments, func(name string) string { return env[name] }, io.Discard)
	}
	if s, err := parse(); err != nil || s.listen != "" || s.joined != "127.0.0.1:9111" || s.callback != nil || s.resumeWithin != 2*time.Minute {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parse("--callback-resume", "0"); err == nil {
		t.Error("no time at all is taken")
	}
}

func TestSignalsHaveNamesAndNumbers(t *testing.T) {
	for text, want := range map[string]unix.Signal{"15": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "term": unix.SIGTERM, "SIGRTMIN+3": 37, "RTMIN": 34, "rtmax-1": 63, "RTMIN+31": 0, "RTMAX-31": 0, "RTMIN+x": 0, "0": 0, "65": 0, "": 0} {
		if got, _ := parseSignal(text); got != want {
			t.Errorf("%q is %d", text, got)
		}
	}
}
