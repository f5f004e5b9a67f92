package containerinit

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// exitLine reports a run's exit to a backend that finds neither the agent nor the
// task any more. It is sealed with a key for only this container and run.
func exitLine(key []byte, generation uint64, exit *agentv1.ExitStatus) string {
	told := fmt.Sprintf("exit generation=%d code=%d oom_killed=%t platform_stop=%t finished_at=%s",
		generation, exit.Code, exit.OomKilled, exit.PlatformStop, exit.FinishedAt.AsTime().Format(time.RFC3339Nano))
	seal := hmac.New(sha256.New, key)
	seal.Write([]byte(told))
	return fmt.Sprintf("%s%s seal=%x\n", agentMark, told, seal.Sum(nil))
}
