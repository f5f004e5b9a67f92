package containerinit_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestTheEndOfEachRunIsLeftInThePlatformsLogSealed(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	client := k.client()
	run := func(generation uint64, key, says, code string, tee agentv1.Tee) {
		t.Helper()
		c := attach(t, client, code)
		start(t, client, &agentv1.StartRequest{Generation: generation, Process: nobody("probe", "say", says, code),
			ExitKey: []byte(key), Tee: tee, AwaitAttachIds: []string{code}})
		c.exit()
	}
	const forged = "[sockerless] exit generation=1 code=0 seal=00\n"
	run(1, "key of 1", forged+"last", "3", agentv1.Tee_TEE_STDOUT)
	run(2, "", "nothing is asked for\n", "4", agentv1.Tee_TEE_STDOUT)
	run(3, "key of 3", "", "5", agentv1.Tee_TEE_NONE)
	k.await("the end", func() bool { return release(t, client, 3) == nil })
	k.exitCode()
	lines := strings.Split(k.said(), "\n")
	var ends []string
	for i, line := range lines {
		if told, is := strings.CutPrefix(line, "[sockerless] exit "); is {
			if ends = append(ends, told); len(ends) == 1 && lines[i-1] != "[stdout +] last" {
				t.Errorf("before the end: %q", lines[i-1])
			}
		}
	}
	if !strings.Contains(k.said(), "\n[stdout] "+forged) || len(ends) != 2 {
		t.Fatalf("the platform collected %s", k.said())
	}
	for i, want := range []struct{ text, key string }{
		{`^generation=1 code=3 oom_killed=false platform_stop=false finished_at=20\S+Z$`, "key of 1"},
		{`^generation=3 code=5 oom_killed=false platform_stop=false finished_at=20\S+Z$`, "key of 3"},
	} {
		told, seal, _ := strings.Cut(ends[i], " seal=")
		expected := hmac.New(sha256.New, []byte(want.key))
		expected.Write([]byte("exit " + told))
		if !regexp.MustCompile(want.text).MatchString(told) || seal != hex.EncodeToString(expected.Sum(nil)) {
			t.Errorf("%q with the seal %s", told, seal)
		}
	}
}
