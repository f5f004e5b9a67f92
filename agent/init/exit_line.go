package containerinit

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// exitLine is the line that tells how a run has ended, for a backend that finds
// neither the agent nor the task any more. Its seal is under a key that is given
// for this container and this run alone.
func exitLine(key []byte, generation uint64, exit *agentv1.ExitStatus) string {
	told := fmt.Sprintf("exit generation=%d code=%d oom_killed=%t platform_stop=%t finished_at=%s",
		generation, exit.Code, exit.OomKilled, exit.PlatformStop, exit.FinishedAt.AsTime().Format(time.RFC3339Nano))
	seal := hmac.New(sha256.New, key)
	seal.Write([]byte(told))
	return fmt.Sprintf("%s%s seal=%x\n", agentMark, told, seal.Sum(nil))
}
